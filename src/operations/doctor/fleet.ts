/** Whether hosts of the fleet answer. What a trial would make is left to `hosts check`. */
import type { Clock } from "../../base/clock.ts";
import { formatDuration } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import type { TrialStep } from "../../views/trial-api.ts";
import type { FlintlockHost } from "../../vm/flintlock/config.ts";
import { tryReach } from "../host-trial/host-trial.ts";
import type { DoctorCheck, Finding } from "./check.ts";
import { answer } from "./findings.ts";

/** Nothing is made there, so no installation's name is needed. */
const NAMESPACE = "fr-doctor";

export function fleetChecks({ hosts, vm }: Pick<Config, "hosts" | "vm">, clock: Clock): DoctorCheck[] {
  // While another host answers, jobs can run.
  const worst = hosts.size > 1 ? "warn" : "fail";
  return [...hosts.values()].map((host) => ({
    name: `host ${host.name}`,
    run: answer(async (signal) => {
      const options = { host, namespace: NAMESPACE, settings: vm.flintlock, clock };
      const steps: TrialStep[] = [];
      for await (const step of tryReach(options, signal)) steps.push(step);
      return judge(host, steps, worst);
    }, worst),
  }));
}

function judge({ name }: FlintlockHost, steps: readonly TrialStep[], worst: "warn" | "fail"): Finding {
  const failed = steps.find(({ level }) => level === "fail");
  if (failed) {
    const { message, hint } = failed;
    return { level: worst, message, ...(hint === undefined ? {} : { hint }) };
  }
  const took = formatDuration(steps[0]?.tookMs ?? 0);
  const hint = `The whole trial, up to a guest that speaks to the relay: firerunner hosts check ${name}`;
  return { level: "ok", message: `${steps.map(({ message }) => message).join("; ")} (${took})`, hint };
}
