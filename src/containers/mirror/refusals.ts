/** What goes wrong with a pull, as the client of a registry is told of it. */
import { FireRunnerError } from "../../base/errors.ts";
import { SECOND_MS } from "../../base/units.ts";
import { RegistryError } from "../../registry/errors.ts";
import { Refusal } from "../../relay/errors.ts";
import { ContainerError } from "../errors.ts";

const statuses: Readonly<Record<string, number | undefined>> = {
  container_bad_name: 400,
  container_not_found: 404,
  container_forbidden_address: 403,
  container_too_large: 403,
  container_bad_image: 502,
  registry_unavailable: 503,
};
const denials: readonly string[] = ["container_denied", "registry_unauthorized"];

/** Errors of this program itself are given back as they are. `hasLogin`: the registry was asked with one. */
export function refusalOf(error: unknown, hasLogin: boolean): unknown {
  if (error instanceof Refusal || !(error instanceof FireRunnerError)) return error;
  const { code, message } = error;
  if (denials.includes(code)) return new Refusal(hasLogin ? 403 : 401, message, { cause: error });
  if (error instanceof RegistryError)
    return new Refusal(statuses[code] ?? 502, message, { headers: patience(error), cause: error });
  const status = statuses[code];
  if (status !== undefined) return new Refusal(status, message, { cause: error });
  if (error instanceof ContainerError) return error;
  // Of a proxy between here and there: not for guests.
  return new Refusal(502, "the registry cannot be reached from here; the log of FireRunner says more", {
    cause: error,
  });
}

function patience({ retryAfterMs }: RegistryError): Record<string, string> {
  return retryAfterMs === undefined ? {} : { "Retry-After": String(Math.ceil(retryAfterMs / SECOND_MS)) };
}
