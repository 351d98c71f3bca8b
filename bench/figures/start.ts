import { createRunnerDouble } from "@firerunner/gitlab-stand-in/test-clients";
import { rewritePayload } from "../../src/relay/job/payload.ts";
import type { Job, Machine } from "../../src/store/store.ts";
import { compare, type Figure, type Row } from "../core/figure.ts";
import { pairedDifferences, summarize } from "../core/statistics.ts";
import { prepareBare, resolveBenchImage } from "../parts/bare-machine.ts";
import { createRealInstallation } from "../parts/real-installation.ts";

const JOB_LIMIT_MS = 120_000;
const PROJECT = "group/start";
/** A request is the first sign that leaves the guest at once; the log is sent every 3 s. Bash alone, so that no program is loaded. */
const firstLine = `exec 3<>/dev/tcp/10.0.2.100/80; printf 'GET /${PROJECT}.git/info/refs?service=git-upload-pack HTTP/1.1\\r\\nHost: 10.0.2.100\\r\\nConnection: close\\r\\n\\r\\n' >&3; read -r answer <&3`;

/** One job, in milliseconds since GitLab answered the claim. */
interface Course {
  readonly processMs: number;
  readonly heardMs: number;
  readonly handedOverMs: number;
  readonly scriptMs: number;
  readonly finishedMs: number;
  readonly goneMs: number;
}

export const start: Figure = {
  name: "start",
  title: "From the claim to the first line of the script",
  about:
    "From GitLab's answer to the claim until a request that the script's first line makes arrives, with real machines under emulation and the stand-in runner; beside it the same image, runner and payload booted by hand with the hypervisor's same arguments, its disk made before, and a few lines of code in the relay's place. Both at the same moment, so that both have to share the cores alike. The difference, the median of those within each pair, is what FireRunner itself takes. The other rows are the course of the same jobs, each from the claim on.",
  machines: true,
  limitMs: 900_000,
  async measure(context) {
    const count = context.quick ? 1 : 10;
    const image = await resolveBenchImage();
    const { here, daemon, goneMachine } = await createRealInstallation(context);
    const { gitlab } = here;
    const project = await gitlab.projects.add({ path: PROJECT, repository: { files: { a: "b\n" } } });
    const bareRunner = createRunnerDouble(gitlab.url);
    context.defer(() => bareRunner.close());
    const bareToken = gitlab.runners.add({ tags: ["bare"] }).token;
    const definition = { script: [firstLine], variables: { GIT_STRATEGY: "none" }, timeoutSeconds: 600 };

    async function prepareByHand() {
      const job = await gitlab.addJob(project, { ...definition, tags: ["bare"] });
      const { payload } = await bareRunner.claim(bareToken);
      const raw = rewritePayload(JSON.stringify(payload), {
        origin: gitlab.url,
        basePath: "",
        relayHost: "10.0.2.100",
      });
      const machine = await prepareBare(context, image, raw);
      return async () => {
        const { scriptMs = 0 } = await machine.boot();
        await bareRunner.update(job.id, job.token, "success");
        return scriptMs;
      };
    }

    /** Both at one moment: whatever else the computer does happens to both. */
    async function bothWays(): Promise<[Course, number]> {
      const bootByHand = await prepareByHand();
      const before = gitlab.requests.length;
      const job = await gitlab.addJob(project, definition);
      await gitlab.waitForJob(job, ({ startedAt }) => startedAt !== undefined, JOB_LIMIT_MS);
      const bareMs = await bootByHand();
      await gitlab.waitForJob(job, "success", JOB_LIMIT_MS);
      const machine = await goneMachine(job.id);
      const spoken = gitlab.requests.slice(before).find(({ route }) => route === "git");
      const row = (await daemon.jobs()).find(({ id }) => id === job.id);
      if (!spoken || !row) throw new Error("the job left no trace of its course");
      const times = { claimedAt: job.startedAt ?? 0, spokenAt: spoken.at, job: row, machine };
      return [courseOf(times), bareMs];
    }

    const courses: Course[] = [];
    const bareMs: number[] = [];
    for (let turn = 0; turn < count; turn++) {
      context.progress(`${turn + 1} of ${count}, by FireRunner and by hand`);
      const [course, byHandMs] = await bothWays();
      courses.push(course);
      bareMs.push(byHandMs);
    }
    return summarizeStarts(courses, bareMs);
  },
};

function courseOf(of: {
  claimedAt: number;
  spokenAt: number;
  job: Job;
  machine: Machine & { goneAt: number };
}): Course {
  const since = (at: number | null) => (at ?? of.claimedAt) - of.claimedAt;
  return {
    processMs: since(of.machine.bootingAt),
    heardMs: since(of.machine.heardAt),
    handedOverMs: since(of.job.runningAt),
    scriptMs: since(of.spokenAt),
    finishedMs: since(of.job.finishedAt),
    goneMs: since(of.machine.goneAt),
  };
}

export function summarizeStarts(courses: readonly Course[], bareMs: readonly number[]): Row[] {
  const series = (of: keyof Course) => summarize(courses.map((course) => course[of]));
  const row = (what: string, of: keyof Course): Row => ({ what, unit: "ms", measured: series(of) });
  const scriptMs = courses.map((course) => course.scriptMs);
  return [
    {
      ...compare(row("claim answered → first line", "scriptMs"), "by hand", summarize(bareMs)),
      difference: summarize(pairedDifferences(scriptMs, bareMs)).median,
      promised: { of: "difference", bound: "at most", value: 300 },
    },
    row("claim answered → hypervisor runs", "processMs"),
    row("claim answered → guest asks for its boot data", "heardMs"),
    row("claim answered → payload handed over", "handedOverMs"),
    row("claim answered → GitLab has the result", "finishedMs"),
    row("claim answered → machine gone", "goneMs"),
  ];
}
