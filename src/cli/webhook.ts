import type { Command } from "commander";
import type { Run } from "./context.ts";
import { addWebhookInstall } from "./webhook/install.ts";
import { addWebhookSend } from "./webhook/send.ts";
import { addWebhookStatus } from "./webhook/status.ts";

export function addWebhook(program: Command, run: Run): void {
  const webhook = program.command("webhook").description("how GitLab tells FireRunner of jobs");
  addWebhookInstall(webhook, run);
  addWebhookStatus(webhook, run);
  addWebhookSend(webhook, run);
}
