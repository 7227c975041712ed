/**
 * Judges a birth that a member reported: `birth_date` is when the child was born, `date` when it was reported.
 * Completed, or invalid, and never in between: the record either holds or must be corrected, and a document that is recorded
 * again is judged anew. Too late is invalid as well: nothing is left to do except correct a date that was mistyped.
 */
import { Type } from "typebox";
import type { Static } from "typebox";
import type { Evaluator, Facts, Reason, Verdict } from "../evaluation/evaluator.ts";
import { isAfter, isInTheFuture, MemberTime, parseMemberTime } from "../evaluation/member_time.ts";
import type { ParsedMemberTime } from "../evaluation/member_time.ts";

const dataSchema = Type.Object(
  { birth_date: MemberTime, date: MemberTime },
  { additionalProperties: false },
);

const criteriaSchema = Type.Object(
  {
    report_within_days: Type.Optional(
      Type.Integer({
        minimum: 0,
        description: "Calendar days from the day of birth to the day of the report, at the most.",
      }),
    ),
  },
  { additionalProperties: false },
);

type BirthFacts = Facts<Static<typeof dataSchema>, Static<typeof criteriaSchema>>;

export const evaluator: Evaluator<typeof dataSchema, typeof criteriaSchema> = {
  name: "birth_record",
  dataSchema,
  criteriaSchema,
  checkData: (data) =>
    (["birth_date", "date"] as const)
      .filter((property) => !parseMemberTime(data[property]))
      .map((property) => ({ pointer: `/${property}`, message: "is not a real date and time" })),
  evaluate(facts): Verdict {
    const explanation = explain(facts);
    return explanation.every(({ met }) => met)
      ? { status: "completed", progress: 1, explanation }
      : { status: "invalid", progress: 0, explanation };
  },
};

function explain({ data, criteria, now }: BirthFacts): Reason[] {
  const birth = parseMemberTime(data.birth_date);
  const report = parseMemberTime(data.date);
  const reasons = [
    isReal("birth_date_is_real", "/birth_date", birth),
    isReal("report_date_is_real", "/date", report),
  ];
  // The others compare real dates; there is nothing to say about them yet.
  if (!birth || !report) return reasons;
  reasons.push(notAfterReport(birth, report), notInTheFuture(isInTheFuture(report, now)));
  const { report_within_days: days } = criteria;
  if (days !== undefined) reasons.push(inTime(report.day - birth.day, days));
  return reasons;
}

function isReal(condition: string, pointer: string, time: ParsedMemberTime | undefined): Reason {
  return time
    ? { condition, met: true, message: "The date is a real one." }
    : { condition, met: false, message: "There is no such date and time.", pointer };
}

function notAfterReport(birth: ParsedMemberTime, report: ParsedMemberTime): Reason {
  const condition = "birth_is_not_after_report";
  return isAfter(birth, report)
    ? { condition, met: false, message: "The birth is after its report.", pointer: "/birth_date" }
    : { condition, met: true, message: "The birth is not after its report." };
}

function notInTheFuture(future: boolean): Reason {
  const condition = "report_is_not_in_the_future";
  return future
    ? { condition, met: false, message: "The report is in the future.", pointer: "/date" }
    : { condition, met: true, message: "The report is not in the future." };
}

function inTime(days: number, needed: number): Reason {
  const condition = "reported_in_time";
  const met = days <= needed;
  const message = `To be reported within ${needed} ${needed === 1 ? "day" : "days"} of the birth.`;
  // With zones, a report can be a calendar day before the birth without being earlier.
  const reason = { condition, met, message, needed, counted: Math.max(0, days) };
  return met ? reason : { ...reason, pointer: "/date" };
}
