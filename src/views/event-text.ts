import { oneLine, plainText } from "../base/text.ts";
import { formatDuration, formatMib } from "../base/units.ts";
import type { EventDetails, EventKind, LifecycleEvent } from "../domain/events.ts";

type Words = { readonly [Kind in EventKind]: (detail: EventDetails[Kind], machine: string) => string };

/** Every event as a sentence for people. `machine` is the id of the machine it is about, or `a machine`. */
const words: Words = {
  "job:claimed": ({ pool, runner, pollMs }) =>
    `claimed from GitLab for pool ${pool} with runner ${runner}… (GitLab answered after ${formatDuration(pollMs)})`,
  "job:starting": ({ machineId, attempt, host }) =>
    `gets machine ${machineId} on ${host}${attempt > 1 ? `, attempt ${attempt}` : ""}`,
  "job:running": ({ machineId }) => `handed over to ${machineId}: the job runs`,
  "job:retried": ({ machineId, reason }) => `will get another machine instead of ${machineId}: ${reason}`,
  "job:failing": ({ reason }) => `cannot go on: ${reason}`,
  "job:finished": ({ result, reason }) => `ended in GitLab: ${result}${reason ? ` (${reason})` : ""}`,
  "job:report-failed": ({ error }) => `GitLab did not take the report, which will be repeated: ${error}`,
  "job:noticed": ({ tags, hook }) =>
    `waits in GitLab for a runner with ${tags.join(", ")}${hook ? "" : " (no webhook told of it)"}`,
  "job:left-alone": ({ reason }) => `is left to wait in GitLab: ${reason}`,
  "job:no-longer-pending": () => "does not wait in GitLab any more",
  "runner:creating": ({ key, tags }) => `runner ${key} is being made in GitLab for ${tags.join(", ")}`,
  "runner:active": ({ key, runner }) => `runner ${key} is number ${runner} in GitLab`,
  "runner:retiring": ({ key, reason }) => `runner ${key} is to be deleted in GitLab: ${reason}`,
  "runner:gone": ({ key }) => `runner ${key} is deleted`,
  "machine:creating": ({ driver, cpus, memoryMib }, machine) =>
    `${machine} is being created by ${driver} (${cpus} CPU${cpus === 1 ? "" : "s"}, ${formatMib(memoryMib)})`,
  "machine:fetching": (_detail, machine) => `${machine} is to have images that are fetched first`,
  "machine:images-here": ({ tookMs }, machine) =>
    `the images that ${machine} is to have are here, after ${formatDuration(tookMs)}`,
  "machine:booting": (_detail, machine) => `${machine} boots`,
  "machine:heard": (_detail, machine) => `${machine} spoke for the first time`,
  "machine:ready": (_detail, machine) => `${machine} asked for its job`,
  "machine:busy": (_detail, machine) => `${machine} took the job's payload`,
  "machine:ended": ({ end }, machine) =>
    end === "orderly"
      ? `${machine} said that it powers off`
      : `${machine} had ended, and its host has started it again`,
  "machine:stopping": ({ reason }, machine) => `${machine} is being destroyed: ${reason}`,
  "machine:gone": (_detail, machine) => `${machine} is gone, with everything it had`,
  "machine:adopted": ({ state }, machine) => `${machine} was found ${state} after a restart of FireRunner`,
  "machine:create-failed": ({ error }, machine) => `${machine} could not be created: ${error}`,
  "machine:destroy-failed": ({ error }, machine) => `${machine} could not be destroyed yet: ${error}`,
  "machine:console": ({ text }, machine) => `last lines of ${machine}'s console:\n${indent(text)}`,
  "machine:out-of-memory": ({ killed }, machine) =>
    `${machine} had no memory left: its kernel ended ${killed} process${killed === 1 ? "" : "es"} of the script`,
  "machine:unknown": ({ host }, machine) => `${machine} on ${host} belonged to nobody and is destroyed`,
  "host:drained": ({ host }) => `nothing new is started on ${host}`,
  "host:resumed": ({ host }) => `machines are started on ${host} again`,
  "operator:acted": ({ who, change }) => `${who} asked for ${change}`,
  "egress:asked": ({ target }, machine) => `${machine} asked for ${target}`,
  "egress:unlisted": ({ target }, machine) =>
    `${machine} asked for ${target}, which is not in its pool's list: let pass, since egress.audit is set`,
  "egress:connected": ({ target }, machine) => `${machine} is connected to ${target}`,
  "egress:failed": ({ target, reason }, machine) => `${machine} did not get to ${target}: ${reason}`,
  "egress:allowed": ({ target }, machine) => `${machine} reached ${target}`,
  "egress:refused": ({ target, reason }, machine) => `${machine} was refused ${target}: ${reason}`,
  "guest:refused": ({ rule }, machine) => `${machine} broke a rule of the relay: ${rule}`,
};

export function eventText(event: LifecycleEvent): string {
  const tell = words[event.kind] as (detail: object, machine: string) => string;
  const detail = event.kind === "machine:console" ? event.detail : shownDetail(event.detail);
  return tell(detail, event.machineId ?? "a machine");
}

/** Names and reasons may be other people's words: none of them may look like the next event. */
function shownDetail(detail: object): object {
  const shown = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(shown);
    return typeof value === "string" ? oneLine(value) : value;
  };
  return Object.fromEntries(Object.entries(detail).map(([name, value]) => [name, shown(value)]));
}

function indent(text: string): string {
  return plainText(text)
    .trimEnd()
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
}
