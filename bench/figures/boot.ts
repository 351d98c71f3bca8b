import { compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { bootSmoke, prepareBare, resolveBenchImage } from "../parts/bare-machine.ts";

export const boot: Figure = {
  name: "boot",
  title: "From the hypervisor to the relay",
  about:
    "From the start of the hypervisor until the guest asks the relay for its boot data; beside it the same kernel and initramfs without disks and network, which powers off at its first program. By emulation, one CPU and 512 MiB, in turns.",
  machines: true,
  limitMs: 600_000,
  async measure(context) {
    const count = context.quick ? 1 : 10;
    const image = await resolveBenchImage();
    const heardMs: number[] = [];
    const smokeMs: number[] = [];
    for (let turn = 0; turn < count; turn++) {
      context.progress(`${turn + 1} of ${count}, both ways`);
      heardMs.push((await (await prepareBare(context, image, undefined)).boot()).heardMs);
      smokeMs.push(await bootSmoke(context, image));
    }
    return [summarizeBoots(heardMs, smokeMs)];
  },
};

export function summarizeBoots(heardMs: readonly number[], smokeMs: readonly number[]): Row {
  const row = {
    what: "hypervisor started → guest at the relay",
    unit: "ms",
    measured: summarize(heardMs),
    promised: { of: "ratio", bound: "at most", value: 1.5 },
  } as const;
  return compare(row, "booted bare", summarize(smokeMs));
}
