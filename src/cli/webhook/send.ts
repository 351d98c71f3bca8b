/** `webhook send`: makes a delivery as GitLab would, and says what became of it. */

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import { z } from "zod";
import { systemClock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { plainText } from "../../base/text.ts";
import type { JobStory } from "../../views/api.ts";
import type { DeliveryView } from "../../views/webhook-api.ts";
import { createDaemonClient, type DaemonClient } from "../client.ts";
import type { Context, Run } from "../context.ts";
import { requireWebhook } from "../context.ts";
import { CliError, DaemonError, exitCodes, isNotRunning } from "../errors.ts";
import { idOption } from "../options.ts";
import type { Output } from "../output.ts";
import { connectListener, type ListenerAnswer, type ListenerOptions } from "./deliver.ts";
import { deliveryHeaders, type HookEvent, hookEvents, sampleBody } from "./sample.ts";

/** How long FireRunner may take to ask GitLab about the job of a sample. */
const REACTION_LIMIT_MS = 5_000;
const POLL_MS = 500;

interface Options extends ListenerOptions {
  readonly event: HookEvent;
  readonly file?: string;
  readonly id?: string;
  readonly project: number;
  readonly job: number;
  readonly status: string;
}

/** What came of it, as far as this computer's FireRunner tells; undefined when none runs here. */
interface Outcome {
  readonly delivery: DeliveryView | null;
  /** What FireRunner knows of the job by now; null when nothing. */
  readonly job: string | null;
}

export function addWebhookSend(webhook: Command, run: Run): void {
  webhook
    .command("send")
    .description("sign a sample as GitLab does and deliver it to FireRunner: trying it out without GitLab")
    .addOption(
      new Option("-e, --event <event>", "what it tells of").choices(Object.keys(hookEvents)).default("job"),
    )
    .option(
      "-f, --file <json>",
      "the body, such as one copied from GitLab's list of deliveries; else a sample",
    )
    .option("--project <id>", "GitLab's id of the project in the sample", idOption, 1)
    .option("--job <id>", "GitLab's id of the job or pipeline in the sample", idOption, 1)
    .option("--status <status>", "its status in the sample", "pending")
    .option(
      "--id <id>",
      "what tells this delivery from others; the same again is a duplicate (default: random)",
    )
    .option("--url <url>", "where to deliver, instead of the first address of http.listen")
    .option("--ca <file>", "PEM file of the authority of the public server's certificate")
    .option("--insecure", "verify no certificate; for addresses of this computer only")
    .action(run<Options>(async (context, _args, options) => await sendSample(context, options)));
}

async function sendSample(context: Context, options: Options): Promise<number> {
  const { output } = context;
  const config = await context.loadConfig();
  const { secrets } = requireWebhook(config);
  const [signingKey, token] = [secrets.signingKeys[0], secrets.tokens[0]];
  const { event, id = randomUUID() } = options;
  const now = systemClock.now();
  const { project: projectId, job, status } = options;
  const body = options.file
    ? await readBody(options.file)
    : sampleBody({ event, projectId, id: job, status }, now);
  const headers = deliveryHeaders({ event: hookEvents[event], id, body, now }, { signingKey, token });
  const listener = await connectListener(config, options);
  const daemon = createDaemonClient(config.state);
  try {
    const answer = await listener.deliver(headers, body);
    const isTaken = answer.status >= 200 && answer.status < 300;
    const outcome = isTaken ? await findOutcome(daemon, id) : undefined;
    output.result({ url: listener.url, id, answer, outcome: outcome ?? null }, () =>
      printOutcome(output, { url: listener.url, id, answer, outcome }),
    );
    return isTaken ? exitCodes.ok : exitCodes.failed;
  } finally {
    await Promise.all([listener.close(), daemon.close()]);
  }
}

async function readBody(file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new CliError("cli_usage", `reading ${file} failed: ${describeError(cause)}`, { cause });
  });
  if (z.json().safeParse(parseJson(text)).success) return text;
  throw new CliError("cli_usage", `${file} is not JSON`, {
    hint: "GitLab shows the body of each delivery under Settings → Webhooks → Edit → Recent events → View details.",
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Undefined when no FireRunner of this configuration runs here, or one of another kind answers. */
async function findOutcome(daemon: DaemonClient, id: string): Promise<Outcome | undefined> {
  try {
    const delivery = (await daemon.deliveries({ limit: 1_000 })).find(({ key }) => key === id) ?? null;
    const jobId = delivery?.jobId ?? null;
    return { delivery, job: jobId === null ? null : await awaitJob(daemon, jobId) };
  } catch (error) {
    if (isNotRunning(error)) return undefined;
    throw error;
  }
}

/** What “why” says of the job as soon as FireRunner has noticed it, or has had time for that. */
async function awaitJob(daemon: DaemonClient, jobId: number): Promise<string | null> {
  const until = systemClock.now() + REACTION_LIMIT_MS;
  while (true) {
    const story = await storyOf(daemon, jobId);
    const isSeen = story !== undefined && !("waiting" in story && story.waiting.standing === "unseen");
    if (isSeen || systemClock.now() >= until) return story ? wordsOf(story) : null;
    await systemClock.sleep(POLL_MS);
  }
}

async function storyOf(daemon: DaemonClient, jobId: number): Promise<JobStory | undefined> {
  return await daemon.job(jobId).catch((error: unknown) => {
    if (error instanceof DaemonError && error.code === "not_found") return undefined;
    throw error;
  });
}

function wordsOf({ explanation: { summary, cause } }: JobStory): string {
  return cause === null ? summary : `${summary} ${cause}`;
}

interface Sent {
  readonly url: string;
  readonly id: string;
  readonly answer: ListenerAnswer;
  readonly outcome: Outcome | undefined;
}

function printOutcome(output: Output, { url, id, answer, outcome }: Sent): void {
  const isTaken = answer.status >= 200 && answer.status < 300;
  const status = output.paint(isTaken ? "green" : "red", String(answer.status));
  output.line(`${url} answered ${status} in ${Math.round(answer.tookMs)} ms: ${answer.text}`);
  if (!isTaken) {
    output.line("  → docs/webhooks.md says what each answer means.");
    return;
  }
  if (outcome === undefined) {
    output.line(
      "What became of it is known to the FireRunner there only: none runs here with this configuration.",
    );
    return;
  }
  output.line(
    outcome.delivery
      ? `stored as ${plainText(id)}`
      : "the FireRunner of this configuration has not stored it",
  );
  if (outcome.job !== null) output.line(plainText(outcome.job));
  else if (outcome.delivery?.jobId) {
    output.line(
      `Nothing is known of job ${outcome.delivery.jobId}: GitLab was asked for the pending jobs of project ${outcome.delivery.projectId}, and it is not among those with a tag of ours.`,
    );
  }
}
