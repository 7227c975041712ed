/** What is kept in memory, what is never kept, and who may wait for whom: every order of a question and a change. */
import { createHash } from "node:crypto";
import { beforeEach, describe, expect, test } from "@jest/globals";
import * as fc from "fast-check";
import { Answers, memberHash } from "../../src/cache/answers.ts";
import type { Answer } from "../../src/cache/answers.ts";

const answerOf = (text: string): Answer => ({
  body: Buffer.from(text),
  etag: `"${text}"`,
  contentType: "application/json",
});
const text = (answer: Answer | undefined) => answer?.body.toString();

let isHearing: boolean;
let answers: Answers;
const make = (maxBytes: number, keptForMs = 60_000) =>
  new Answers({ maxBytes, keptForMs, isHearing: () => isHearing });
beforeEach(() => {
  isHearing = true;
  answers = make(1_000_000);
});

function keep(key: string, member: string, body = key): boolean {
  return answers.begin(key, member).end(answerOf(body));
}

test("a member's hash is what the database calls them", () => {
  for (const user of ["alice", "Zoë", "🙂"]) {
    const bytes = createHash("sha256").update(Buffer.from(user, "utf8")).digest();
    expect(memberHash(user)).toBe(bytes.subarray(0, 3).toString("base64"));
  }
});

describe("an answer", () => {
  test("is found under its own key until its member changes", () => {
    expect(keep("a1", "aaaa")).toBe(true);
    expect(keep("b1", "bbbb")).toBe(true);
    expect(text(answers.find("a1"))).toBe("a1");
    answers.forget(["aaaa", "cccc"]);
    expect(answers.find("a1")).toBeUndefined();
    expect(text(answers.find("b1"))).toBe("b1");
    answers.forget("all");
    expect(answers.find("b1")).toBeUndefined();
  });

  test("is given out and kept only while changes are heard of", () => {
    keep("a1", "aaaa");
    isHearing = false;
    expect(answers.find("a1")).toBeUndefined();
    expect(answers.join("a1")).toBeUndefined();
    const deafAtFirst = answers.begin("a2", "aaaa");
    isHearing = true;
    expect(deafAtFirst.end(answerOf("a2"))).toBe(false);
    const deafInTheEnd = answers.begin("a3", "aaaa");
    isHearing = false;
    expect(deafInTheEnd.end(answerOf("a3"))).toBe(false);
    isHearing = true;
    expect(answers.find("a2") ?? answers.find("a3")).toBeUndefined();
  });

  test("is good for its time", async () => {
    answers = make(1_000_000, 20);
    keep("a1", "aaaa");
    expect(text(answers.find("a1"))).toBe("a1");
    await new Promise((resolve) => setTimeout(resolve, 40));
    expect(answers.find("a1")).toBeUndefined();
  });

  test("makes room: for others' when the bytes are used up, for the same member's after a hundred", () => {
    answers = make(20_000);
    expect(keep("too big", "aaaa", "x".repeat(3000))).toBe(false);
    expect(answers.find("too big")).toBeUndefined();
    for (let index = 0; index < 100; index += 1) keep(`${index}`, `m${index}`, "x".repeat(1000));
    expect(answers.find("0")).toBeUndefined();
    expect(answers.find("99")).toBeDefined();

    answers = make(1_000_000);
    keep("b", "bbbb");
    for (let index = 0; index < 150; index += 1) keep(`a${index}`, "aaaa");
    expect([answers.find("a0"), answers.find("a49")]).toEqual([undefined, undefined]);
    expect(answers.find("a50") && answers.find("b")).toBeDefined();
  });
});

describe("a question being asked", () => {
  test("is joined by those who ask the same, and its answer is theirs too", async () => {
    const flight = answers.begin("a1", "aaaa");
    expect(answers.join("b1")).toBeUndefined();
    const joined = answers.join("a1")?.answer;
    flight.end(answerOf("once"));
    expect(text(await joined)).toBe("once");
    expect(answers.join("a1")).toBeUndefined();
  });

  test("that fails leaves those who joined it to ask for themselves", async () => {
    const flight = answers.begin("a1", "aaaa");
    const joined = answers.join("a1")?.answer;
    expect(flight.end(undefined)).toBe(false);
    expect(await joined).toBeUndefined();
    expect(answers.find("a1")).toBeUndefined();
    expect(flight.end(answerOf("late"))).toBe(false);
  });

  test("when its member changes is answered, but not kept, nor joined from then on", async () => {
    for (const change of [["aaaa"], "all"] as const) {
      const flight = answers.begin("a1", "aaaa");
      const before = answers.join("a1")?.answer;
      answers.forget(change);
      expect(answers.join("a1")).toBeUndefined();
      const after = answers.begin("a1", "aaaa");
      expect(flight.end(answerOf("old"))).toBe(false);
      expect(text(await before)).toBe("old");
      expect(answers.find("a1")).toBeUndefined();
      expect(after.end(answerOf("new"))).toBe(true);
      expect(text(answers.find("a1"))).toBe("new");
      answers.forget("all");
    }
  });

  test("goes on unharmed by another member's change", () => {
    const flight = answers.begin("a1", "aaaa");
    answers.forget(["bbbb"]);
    expect(flight.end(answerOf("a1"))).toBe(true);
  });
});

test("of a member who writes nothing is kept until all their writes are over, and others are not concerned", () => {
  keep("a1", "aaaa");
  const early = answers.begin("a2", "aaaa");
  const isOver = answers.beginWrite("aaaa");
  const isOtherOver = answers.beginWrite("aaaa");
  expect(answers.find("a1")).toBeUndefined();
  expect(early.end(answerOf("a2"))).toBe(false);
  const during = answers.begin("a1", "aaaa");
  expect(answers.join("a1")).toBeUndefined();
  answers.settle(["aaaa"]);
  isOver();
  expect(keep("a1", "aaaa")).toBe(false);
  expect(keep("b1", "bbbb")).toBe(true);
  isOtherOver();
  expect(during.end(answerOf("a1"))).toBe(false);
  expect(keep("a1", "aaaa")).toBe(true);
});

test("in every order of reads, changes and forgetting, an answer found is what the member's state is", () => {
  const member = fc.constantFrom("aaaa", "bbbb");
  const step = fc.oneof(
    fc.record({ do: fc.constant("begin" as const), member }),
    fc.record({ do: fc.constant("end" as const), which: fc.nat(3) }),
    fc.record({ do: fc.constant("change" as const), member, all: fc.boolean() }),
    fc.record({ do: fc.constant("look" as const), member }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      answers = make(1_000_000);
      const state: Record<string, number> = { aaaa: 0, bbbb: 0 };
      const open: { read: string; flight: ReturnType<Answers["begin"]> }[] = [];
      for (const one of steps) {
        if (one.do === "begin") {
          const flight = answers.begin(one.member, one.member);
          open.push({ read: String(state[one.member]), flight });
        } else if (one.do === "end") {
          const [ended] = open.splice(one.which, 1);
          ended?.flight.end(answerOf(ended.read));
        } else if (one.do === "change") {
          for (const who of one.all ? ["aaaa", "bbbb"] : [one.member]) state[who]! += 1;
          answers.forget(one.all ? "all" : [one.member]);
        } else {
          const found = text(answers.find(one.member));
          if (found !== undefined) expect(found).toBe(String(state[one.member]));
        }
      }
    }),
    { numRuns: 2000 },
  );
});
