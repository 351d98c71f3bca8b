import type { Command } from "commander";
import { withDaemon } from "./client.ts";
import type { Run } from "./context.ts";

export function addReload(program: Command, run: Run): void {
  program
    .command("reload")
    .description("make FireRunner read its configuration again (as SIGHUP does) and say what changed")
    .action(
      run(async (context) => {
        const { output } = context;
        const messages = await withDaemon(context, async (daemon) => await daemon.post("reload"));
        output.result({ messages }, () => messages.forEach((message) => void output.line(message)));
        return undefined;
      }),
    );
}
