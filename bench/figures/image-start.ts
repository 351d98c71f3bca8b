import { join } from "node:path";
import type { ResolvedImage } from "../../src/image/store.ts";
import { createBareRoom } from "../../test/harness/bare-room.ts";
import { beforeItsEnd, HAND_MACHINE_ID } from "../../test/vm/boot-by-hand.ts";
import { compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { machineImage, makeJobImage, needsRunner, playRelay, speak } from "../parts/image-jobs.ts";

export const imageStart: Figure = {
  name: "image-start",
  title: "From the claim to the first line in an image, without a machine",
  about:
    "GitLab's own runner, built by hand, with the init and the engine of the image `containers`, natively in namespaces of this computer: from the moment at which the runner gets its job until a request that the script's first line makes arrives, the clone of a repository of one commit included. A job in an image that is there as a disk, beside a job of the shell, in turns.",
  machines: false,
  limitMs: 300_000,
  needs: needsRunner,
  async measure(context) {
    const image = await machineImage(context, "containers");
    const { directory, content, disk } = await makeJobImage(context);
    const imageMs: number[] = [];
    const shellMs: number[] = [];
    const turns = context.quick ? 1 : 9;
    for (let turn = 0; turn < turns; turn++) {
      context.progress(`${turn + 1} of ${turns}, both ways`);
      const socket = join(directory, `relay-${turn}.sock`);
      const play = { socket, script: [`${speak} || true`], directory, content };
      shellMs.push(await firstLine(image, { ...play, how: "shell" }, []));
      imageMs.push(await firstLine(image, { ...play, how: "disk" }, [disk]));
    }
    return [summarizeImageStarts(imageMs, shellMs)];
  },
};

async function firstLine(
  image: ResolvedImage,
  play: Parameters<typeof playRelay>[0],
  imageDisks: readonly string[],
): Promise<number> {
  using relay = await playRelay(play);
  const place = { machineId: HAND_MACHINE_ID, relaySocket: play.socket, imageDisks };
  await using room = await createBareRoom(image, place);
  room.start();
  const given = await beforeItsEnd(room, relay.given);
  return (await beforeItsEnd(room, relay.spoken)) - given;
}

export function summarizeImageStarts(imageMs: readonly number[], shellMs: readonly number[]): Row {
  const row = {
    what: "claimed → first line, in an image",
    unit: "ms",
    measured: summarize(imageMs),
    promised: { of: "difference", bound: "at most", value: 700 },
  } as const;
  return compare(row, "in the shell", summarize(shellMs));
}
