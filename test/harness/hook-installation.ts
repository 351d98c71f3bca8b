import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { stringify } from "yaml";
import type { Secret } from "../../src/base/secret.ts";
import { newSigningKey } from "../../src/gitlab/webhook-signature.ts";
import { type Daemon, startDaemon } from "./daemon.ts";
import { eventually } from "./eventually.ts";

const GROUP = "load";

/** A stand-in GitLab with a group of projects, and a FireRunner that takes the group's webhooks on loopback. */
export interface HookInstallation {
  readonly gitlab: StandInGitLab;
  readonly state: string;
  readonly signingKey: Secret;
  readonly projectIds: readonly number[];
  /** Starts the program, and waits until it knows the projects. Answers with where webhooks go. */
  start(): Promise<{ readonly daemon: Daemon; readonly url: string }>;
  /** Kills what runs, and removes all files. */
  close(): Promise<void>;
}

interface WebhookStatusPart {
  readonly listeners: readonly string[];
  readonly projects: { readonly known: number; readonly due: number };
}

/** All of its files lie below `directory`. */
export async function createHookInstallation(below: string, projects: number): Promise<HookInstallation> {
  const directory = await mkdtemp(join(below, "fr-hooks-"));
  const gitlab = createStandInGitLab();
  await gitlab.listen();
  const projectIds: number[] = [];
  for (let count = 1; count <= projects; count++) {
    projectIds.push((await gitlab.projects.add({ path: `${GROUP}/project-${count}` })).id);
  }
  const state = join(directory, "state");
  const signingKey = newSigningKey();
  await mkdir(state, { mode: 0o700 });
  const configFile = join(directory, "firerunner.yaml");
  const configuration = {
    gitlab: { url: gitlab.url },
    state,
    webhook: {
      group: GROUP,
      apiToken: gitlab.tokens.add({ scopes: ["api"], memberOf: GROUP }).token,
      signingKey: signingKey.reveal(),
    },
    http: { listen: ["http://127.0.0.1:0"] },
  };
  await writeFile(configFile, stringify(configuration), { mode: 0o600 });

  const daemons: Daemon[] = [];

  return {
    gitlab,
    state,
    signingKey,
    projectIds,
    async start() {
      const daemon = await startDaemon(configFile, state);
      daemons.push(daemon);
      const url = await eventually("FireRunner knows its projects", async () => {
        const {
          listeners,
          projects: { known },
        } = await daemon.get<WebhookStatusPart>("/v1/webhook");
        return known === projects && listeners[0] !== undefined && `${listeners[0]}/webhook`;
      });
      return { daemon, url };
    },
    async close() {
      for (const daemon of daemons) await daemon.kill9();
      await gitlab.close();
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
