/**
 * Stands in for the program in tests of the demo: `image build` and `webhook install` say so, `start --config FILE` claims jobs
 * and plays them without machines; for jobs by tag it makes the demo's two runners at once. Of a job that must be killed it
 * starts a process that looks like a machine's.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createRunnerDouble, traceSummary } from "@firerunner/gitlab-stand-in/test-clients";
import { parse } from "yaml";

const [command, , configFile = ""] = process.argv.slice(2);
if (command === "image") process.stdout.write("image: nothing to do\n");
else if (command === "webhook") process.stdout.write("webhook: nothing to do\n");
else await serve();

async function serve(): Promise<void> {
  const config = parse(readFileSync(configFile, "utf8"));
  const pools: { runner: { tokenFile: string } }[] = Object.values(config.pools);
  const tokens = pools.map(({ runner: { tokenFile } }) => readSecret(tokenFile));
  const runner = createRunnerDouble(config.gitlab.url);
  process.once("SIGTERM", () => process.exit(0));
  for (const tag of config.webhook ? ["firecracker-1cpu-640mb", "firecracker-2cpu-1gb"] : [])
    tokens.push(await makeRunner(tag));
  let machine = 0;
  for (let turn = 0; ; turn++) {
    const answer = await runner.requestJob(tokens[turn % tokens.length] ?? "");
    if (answer.status !== 201) {
      await pause(10);
      continue;
    }
    const {
      id,
      token: jobToken,
      steps,
    } = answer.json() as { id: number; token: string; steps: [{ script: string[] }] };
    const name = `fr-aaaaaaa${"abcdefghijklmnop"[machine++]}`;
    play(id, jobToken, steps[0].script, name).catch(() => {});
  }

  async function makeRunner(tag: string): Promise<string> {
    const headers = {
      "private-token": readSecret(config.webhook.apiTokenFile),
      "content-type": "application/json",
    };
    const path = `/api/v4/projects/${encodeURIComponent(config.webhook.project)}`;
    const project = (await runner.call("GET", path, { headers })).json();
    const wanted = {
      runner_type: "project_type",
      project_id: project["id"],
      tag_list: [tag],
      run_untagged: false,
    };
    const made = await runner.call("POST", "/api/v4/user/runners", { headers, body: JSON.stringify(wanted) });
    return String(made.json()["token"]);
  }

  async function play(id: number, jobToken: string, script: string[], machine: string): Promise<void> {
    let log = `\u001b[0;36mFireRunner: machine ${machine} (pretended) was ready\u001b[0;m\n$ ${script[0]}\n`;
    await runner.appendTrace(id, jobToken, 0, log);
    const fails = script.some((line) => line.includes("exit 3"));
    if (script.some((line) => line.includes("working"))) return await work(id, jobToken, log, machine);
    log += await append(id, jobToken, log, "done\n");
    const end = fails ? { failure_reason: "script_failure", exit_code: 3 } : {};
    await runner.update(id, jobToken, fails ? "failed" : "success", { ...end, ...traceSummary(log) });
  }

  async function work(id: number, jobToken: string, head: string, machine: string): Promise<void> {
    const path = join(config.state, "machines", machine);
    const pretended = spawn("bash", ["-c", "while sleep 0.05; do :; done", path], {
      argv0: "qemu-system-double",
      stdio: "ignore",
    });
    const died = new Promise<void>((resolve) => pretended.once("exit", () => resolve()));
    const log = head + (await append(id, jobToken, head, "working 1\n"));
    for (;;) {
      const isDead = await Promise.race([died.then(() => true), pause(30).then(() => false)]);
      if (isDead) {
        await runner.update(id, jobToken, "failed", {
          failure_reason: "runner_system_failure",
          ...traceSummary(log),
        });
        return;
      }
      const standing = await runner.update(id, jobToken, "running");
      if (standing.status === 403) return void pretended.kill("SIGKILL");
    }
  }

  async function append(id: number, jobToken: string, before: string, text: string): Promise<string> {
    await runner.appendTrace(id, jobToken, Buffer.byteLength(before), text);
    return text;
  }
}

function readSecret(path: string): string {
  return readFileSync(path, "utf8").trim();
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
