// Preloaded into a process (`node --import`): at its end it prints which packages were loaded. MISSING names a package that
// is not found.
import { registerHooks } from "node:module";

const loaded = new Set();
const missing = process.env.MISSING ?? "";

registerHooks({
  resolve(specifier, context, next) {
    return next(specifier === missing ? `${missing}-that-is-not-installed` : specifier, context);
  },
  load(url, context, next) {
    const name = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1];
    if (name) loaded.add(name);
    return next(url, context);
  },
});

process.on("exit", () => console.log(`loaded ${JSON.stringify([...loaded])}`));
