import { MIB_BYTES } from "../../src/base/units.ts";
import type { ResolvedImage } from "../../src/image/store.ts";
import { beforeItsEnd, createHandMachine } from "../../test/vm/boot-by-hand.ts";
import { compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { JOB_IMAGE, machineImage, makeJobImage, needsRunner, playRelay, speak } from "../parts/image-jobs.ts";

const JOB_LIMIT_MS = 540_000;
const SECTOR_BYTES = 512;
/** Those of the stages before the script, and its own. */
const CONTAINERS = 4;

/** What the scratch disk was sent, with all that lies in memory still. */
const count = [
  "busybox sync",
  "set -- $(busybox cat /sys/block/vdc/stat)",
  "busybox wget -q -O- http://10.0.2.100/group/start.git/sectors/$7",
];
const inContainer = `docker run --rm --network host ${JOB_IMAGE}`;
const scripts = {
  disk: [`${speak} || true`, ...count],
  docker: [
    `docker pull ${JOB_IMAGE}`,
    ...new Array<string>(CONTAINERS - 1).fill(`${inContainer} true`),
    `${inContainer} ${speak} || true`,
    ...count,
  ],
};

interface Course {
  readonly firstMs: number;
  readonly writtenMib: number;
}

export const imagePull: Figure = {
  name: "image-pull",
  title: "From the hypervisor to the first line in an image, beside a pull",
  about: `GitLab's own runner, built by hand, in machines of one CPU under emulation, and an image of busybox and this computer's /usr/include and /usr/lib/python3: from the start of the hypervisor until a request that the script's first line makes arrives. A job in the image, which is a disk of the machine; beside it, at the same moment, a job of the shell in a machine with Docker, which pulls the image from a registry on loopback and starts ${CONTAINERS} containers of it one after the other, as many as the job in the image has, with nothing of what a runner does between them. Written is what the scratch disk was sent until then, all caches flushed.`,
  machines: true,
  limitMs: 900_000,
  needs: needsRunner,
  async measure(context) {
    const images = {
      disk: await machineImage(context, "containers"),
      docker: await machineImage(context, "docker"),
    };
    const job = await makeJobImage(context);
    const courses = { disk: [] as Course[], docker: [] as Course[] };
    context.progress("both machines");
    await Promise.all(
      (["disk", "docker"] as const).map(async (how) =>
        courses[how].push(await run(images[how], how, job, how === "disk" ? [job.disk] : [])),
      ),
    );
    return summarizeImagePulls(courses.disk, courses.docker);
  },
};

async function run(
  image: ResolvedImage,
  how: "disk" | "docker",
  job: Awaited<ReturnType<typeof makeJobImage>>,
  imageDisks: readonly string[],
): Promise<Course> {
  const options = { cpus: 1, memoryMib: 2_048, deadlineMs: JOB_LIMIT_MS, imageDisks };
  await using machine = await createHandMachine(image, options);
  using relay = await playRelay({ socket: machine.relaySocket, how, script: scripts[how], ...job });
  const startedAt = machine.start();
  const firstMs = (await beforeItsEnd(machine, relay.spoken)) - startedAt;
  const sectors = await beforeItsEnd(machine, relay.sectors);
  return { firstMs, writtenMib: (sectors * SECTOR_BYTES) / MIB_BYTES };
}

export function summarizeImagePulls(disk: readonly Course[], docker: readonly Course[]): Row[] {
  const first = {
    what: "hypervisor started → first line, in an image",
    unit: "ms",
    measured: summarize(disk.map(({ firstMs }) => firstMs)),
    promised: { of: "ratio", bound: "at most", value: 0.5 },
  } as const;
  // 5 MB.
  const written = {
    what: "written by a job in an image",
    unit: "MiB",
    measured: summarize(disk.map(({ writtenMib }) => writtenMib)),
    promised: { of: "max", bound: "at most", value: 4.76 },
  } as const;
  return [
    compare(first, "pulled by Docker", summarize(docker.map(({ firstMs }) => firstMs))),
    compare(written, "pulled by Docker", summarize(docker.map(({ writtenMib }) => writtenMib))),
  ];
}
