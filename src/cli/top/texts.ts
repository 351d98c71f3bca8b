/** What the panels of `top` show, in lines of the screen's width. */
import { Writable } from "node:stream";
import { FireRunnerError } from "../../base/errors.ts";
import { plainText, wrapped } from "../../base/text.ts";
import type { HostStatus, MachineView, PoolStatus } from "../../views/api.ts";
import type { DaemonClient } from "../client.ts";
import { counted } from "../messages.ts";
import { createOutput, type Output } from "../output.ts";
import { printStory } from "../why.ts";
import type { Panel } from "./state.ts";

const LOG_BYTES = 64 * 1024;

/** Of a job that is not there any more, or has no log: why not. Throws what keeps FireRunner from answering. */
export async function panelText(
  daemon: DaemonClient,
  { kind, subject }: Pick<Panel, "kind" | "subject">,
  columns: number,
  signal: AbortSignal,
): Promise<string[]> {
  const inLines = (text: string) =>
    plainText(text)
      .split("\n")
      .flatMap((line) => wrapped(line, columns, 0));
  try {
    if (kind === "log") return inLines((await logText(daemon, subject, signal)).trimEnd());
    return await details(daemon, subject, columns);
  } catch (error) {
    if (!(error instanceof FireRunnerError) || error.code !== "not_found") throw error;
    return inLines([error.message, ...(error.hint ? [`→ ${error.hint}`] : [])].join("\n"));
  }
}

async function logText(
  daemon: DaemonClient,
  subject: Panel["subject"],
  signal: AbortSignal,
): Promise<string> {
  const reading = { bytes: LOG_BYTES, follow: false, signal };
  if (subject.kind === "job") return await whole(daemon.jobLog(subject.jobId, reading));
  return subject.kind === "machine" ? await whole(daemon.console(subject.machine.id, reading)) : "";
}

async function whole(parts: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const part of parts) text += part;
  return text;
}

async function details(daemon: DaemonClient, subject: Panel["subject"], columns: number): Promise<string[]> {
  const own = subjectLines(subject).filter((line) => line !== "");
  const about = own.flatMap((line) => wrapped(plainText(line), columns));
  const jobId =
    subject.kind === "job" ? subject.jobId : subject.kind === "machine" ? subject.machine.jobId : null;
  if (jobId === null) return about;
  const story = await daemon.job(jobId);
  const told = story === undefined ? [] : printed(columns, (output) => printStory(output, story, false));
  return [...about, ...(about.length > 0 ? [""] : []), ...told];
}

/** What a command prints on a screen of that width, without colours. */
function printed(columns: number, print: (output: Output) => void): string[] {
  let text = "";
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const screen = Object.assign(stream, { isTTY: true, columns });
  print(createOutput({ stdout: screen, stderr: screen, env: { NO_COLOR: "1" }, json: false }));
  return text.trimEnd().split("\n");
}

/** What there is to be said of it beside the story of its job. */
function subjectLines(subject: Panel["subject"]): string[] {
  switch (subject.kind) {
    case "job":
      return [];
    case "machine":
      return machineLines(subject.machine);
    case "host":
      return hostLines(subject.host);
    case "pool":
      return poolLines(subject.pool);
  }
}

function machineLines({ state, pool, driver, host, image, reason }: MachineView): string[] {
  return [`${state}, pool ${pool}, on ${driver}@${host}`, `image ${image}`, reason ?? ""];
}

function hostLines({ driver, labels, taken, drained, problem, hint }: HostStatus): string[] {
  const named = Object.entries(labels).map(([name, value]) => `${name}: ${value}`);
  return [
    `${driver}, ${counted(taken.machines, "machine")}${drained ? ", drained" : ""}`,
    named.join(", "),
    ...noteLines(problem === null ? [] : [{ problem, hint }]),
  ];
}

function poolLines({ driver, image, claiming, room, problems, tokenNote, imageNote }: PoolStatus): string[] {
  const notes = [...problems, ...(tokenNote ? [tokenNote] : []), ...(imageNote ? [imageNote] : [])];
  return [
    `${driver}, image ${image}, ${claiming}`,
    `${counted(room.machines, "machine")} at one time if nothing else ran`,
    ...(room.note === null ? [] : [`! ${room.note}`]),
    ...noteLines(notes),
  ];
}

function noteLines(notes: readonly { readonly problem: string; readonly hint: string | null }[]): string[] {
  return notes.flatMap(({ problem, hint }) => [`! ${problem}`, ...(hint === null ? [] : [`→ ${hint}`])]);
}
