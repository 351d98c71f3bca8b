import { z } from "zod";
import { type Answer, header, jsonOf } from "./answer.ts";
import { GitLabError } from "./errors.ts";
import { gitLabErrorOf } from "./failure.ts";

const DOING = "verifying the runner token";
const VerifiedRunner = z.looseObject({ id: z.number() });

/** The runner that GitLab knows by the token, from the answer to `POST /runners/verify`. Throws GitLabError. */
export function verifiedRunnerOf(answer: Answer): { id: number } {
  if (answer.cut !== undefined) throw answer.cut;
  const json = jsonOf(answer);
  const location = header(answer, "location");
  // A proxy or another program in GitLab's place answers in HTML, whatever the status.
  if (json === undefined && answer.status < 500) throw gitLabErrorOf(answer.status, location, DOING);
  if (answer.status === 401 || answer.status === 403) {
    throw new GitLabError("gitlab_wrong_token", `${DOING}: GitLab does not know it (${answer.status})`, {
      hint: "create a runner in GitLab and put its token (glrt-…) into the pool; a deleted runner's token stays invalid",
    });
  }
  if (answer.status === 422) {
    throw new GitLabError("gitlab_wrong_token", `${DOING}: the runner has no owner project any more (422)`, {
      hint: "assign the runner to a project in GitLab, or create another",
    });
  }
  const runner = VerifiedRunner.safeParse(json);
  if (answer.status !== 200 || !runner.success) throw gitLabErrorOf(answer.status, location, DOING);
  return { id: runner.data.id };
}
