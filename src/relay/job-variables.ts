/** A variable of a job, as GitLab's payload has it; what else it says of it stays with it. */
export interface JobVariable {
  readonly key: string;
  readonly value: string;
  readonly file?: unknown;
}

/** Others are passed on as they came, and nothing is concluded from them. */
export function isVariable(each: unknown): each is JobVariable {
  return (
    typeof each === "object" &&
    each !== null &&
    "key" in each &&
    "value" in each &&
    typeof each.key === "string" &&
    typeof each.value === "string"
  );
}
