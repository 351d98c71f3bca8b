import { z } from "zod";
import { Secret } from "../base/secret.ts";
import { type Answer, header, jsonOf } from "./answer.ts";
import { gitLabErrorOf, tokenRefusal } from "./failure.ts";
import type { RenewedToken, VerifiedRunner } from "./runner-api.ts";

/** Epoch ms of a time that GitLab may leave out or give as null; null for never. */
export const expiresAt = z
  .string()
  .nullish()
  .transform((text) => Date.parse(text ?? "") || null);

const Verified = z.looseObject({ id: z.number(), token_expires_at: expiresAt });
const Renewed = z.looseObject({ token: z.string().min(1), token_expires_at: expiresAt });

/** The runner that GitLab knows by the token, from the answer to `POST /runners/verify`. Throws GitLabError. */
export function verifiedRunnerOf(answer: Answer): VerifiedRunner {
  const { id, token_expires_at } = parsed(answer, 200, Verified, "verifying the runner token");
  return { id, tokenExpiresAt: token_expires_at };
}

/** The runner's new token, from the answer to `POST /runners/reset_authentication_token`. Throws GitLabError. */
export function renewedTokenOf(answer: Answer): RenewedToken {
  const { token, token_expires_at } = parsed(answer, 201, Renewed, "renewing the runner token");
  return { token: new Secret(token), tokenExpiresAt: token_expires_at };
}

function parsed<T>(answer: Answer, success: number, schema: z.ZodType<T>, doing: string): T {
  if (answer.cut !== undefined) throw answer.cut;
  const json = jsonOf(answer);
  const location = header(answer, "location");
  // A proxy or another program in GitLab's place answers in HTML, whatever the status.
  if (json === undefined && answer.status < 500) throw gitLabErrorOf(answer.status, location, doing);
  const refusal = tokenRefusal(answer.status, doing, "it");
  if (refusal !== undefined) throw refusal;
  const body = schema.safeParse(json);
  if (answer.status !== success || !body.success) throw gitLabErrorOf(answer.status, location, doing);
  return body.data;
}
