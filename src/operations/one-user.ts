import type { Config } from "../config/load.ts";
import { isRemoteDriver } from "../domain/drivers.ts";

/** Without root, a machine's hypervisor cannot be another user than FireRunner: what that means; undefined where it is not so. */
export function oneUserProblem(
  { kinds, webhook }: Pick<Config, "kinds" | "webhook">,
  uid: number,
): { readonly problem: string; readonly hint: string } | undefined {
  const isLocal = [...kinds.values(), ...(webhook ? [webhook.machine] : [])].some(
    ({ driver }) => !isRemoteDriver(driver),
  );
  if (uid === 0 || !isLocal) return undefined;
  return {
    problem:
      `FireRunner runs without root, so machines on this computer run as the same user (${uid}): a job that breaks out of its ` +
      "hypervisor could read the key, the tokens and the jobs of others, and change the images that later jobs boot",
    hint: "Run FireRunner as root, which gives each machine a user of its own, or run only jobs that you trust.",
  };
}
