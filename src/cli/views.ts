import type { Views } from "../views/api.ts";
import type { WebhookViews } from "../views/webhook-api.ts";
import { createDaemonClient } from "./client.ts";
import type { Context } from "./context.ts";
import { CliError } from "./errors.ts";
import { loadApp } from "./load-app.ts";

export type Reads = Pick<Views, "jobs" | "job" | "machines"> & Pick<WebhookViews, "runners">;

/** Reads from the running FireRunner, or, when none runs, from the store it left. */
export async function withViews<Result>(
  context: Context,
  read: (views: Reads) => Promise<Result>,
): Promise<Result> {
  const { state } = await context.loadLocalConfig();
  const daemon = createDaemonClient(state);
  try {
    return await read(daemon);
  } catch (error) {
    if (!(error instanceof CliError && error.code === "cli_not_running")) throw error;
    return await readOffline(context, state, read, error);
  } finally {
    await daemon.close();
  }
}

async function readOffline<Result>(
  { output }: Context,
  state: string,
  read: (views: Reads) => Promise<Result>,
  notRunning: CliError,
): Promise<Result> {
  const { openOfflineViews } = await loadApp();
  const views = await openOfflineViews(state).catch(() => undefined);
  if (views === undefined) throw notRunning;
  output.note(`FireRunner does not run; this is what it left in ${state}.`);
  try {
    return await read(views);
  } finally {
    await views.close();
  }
}
