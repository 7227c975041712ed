/**
 * Whether this process is working off a backlog of due rows: then listeners are told a page a second, because both would work on the
 * same processors and what members won comes first. Shared by the two tasks.
 */
export class Backlog {
  #underWay = 0;

  get isUnderWay(): boolean {
    return this.#underWay > 0;
  }

  async during<T>(work: Promise<T>): Promise<T> {
    this.#underWay += 1;
    try {
      return await work;
    } finally {
      this.#underWay -= 1;
    }
  }
}
