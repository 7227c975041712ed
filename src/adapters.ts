/**
 * Finds adapters by their place: every file of a folder is one adapter, exported under one name. Called by the two
 * registries, at start. It must refuse what it cannot use, naming the file, rather than leave it out.
 */
import { readdir } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import path from "node:path";

/**
 * Imports every `*.ts` of `folder` and returns what each exports as `exportName`, by its `name`.
 * Throws when a file does not export it, or gives it another name than its own.
 */
export async function loadAdapters<Adapter extends { name: string }>(
  folder: string,
  exportName: string,
): Promise<Map<string, Adapter>> {
  const files = (await readdir(folder)).filter((file) => file.endsWith(".ts")).sort();
  const adapters = new Map<string, Adapter>();
  for (const file of files) {
    const module = (await import(pathToFileURL(path.join(folder, file)).href)) as Record<
      string,
      Adapter | undefined
    >;
    const adapter = module[exportName];
    const name = path.basename(file, ".ts");
    if (!adapter) throw new Error(`${folder}/${file} must export \`${exportName}\``);
    if (adapter.name !== name) {
      throw new Error(`${folder}/${file}: \`${exportName}.name\` must be "${name}", as its file`);
    }
    adapters.set(name, adapter);
  }
  return adapters;
}
