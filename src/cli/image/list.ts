import type { Command } from "commander";
import { formatBytes } from "../../base/units.ts";
import type { ListedImage } from "../../image/store.ts";
import type { Context, Run } from "../context.ts";
import { clockTime } from "../messages.ts";
import { directoryOf, openImages, type Place, placeOption } from "./place.ts";

export function addImageList(image: Command, run: Run): void {
  image
    .command("list")
    .description("images on this computer, and where they have been pushed")
    .option(...placeOption)
    .action(run<Place>(list));
}

const columns = [
  { title: "NAME", cut: 12 },
  { title: "DIGEST" },
  { title: "SUITE", spare: 2 },
  { title: "KERNEL", cut: 12, spare: 1 },
  { title: "RUNNER" },
  { title: "SIZE" },
  { title: "BUILT", spare: 3 },
  { title: "PUSHED TO", below: true },
];

async function list(context: Context, _args: readonly string[], place: Place): Promise<undefined> {
  const { output } = context;
  const directory = await directoryOf(context, place);
  const images = await (await openImages(directory)).list();
  output.result(
    images.map(({ names, directory: path, bytes, manifest, publications }) => ({
      names,
      path,
      bytes,
      ...summaryOf(manifest),
      publications: publications.map(({ ca: _long, ...rest }) => rest),
    })),
    () => {
      if (images.length === 0)
        output.note(`There is no image in ${directory}: “firerunner image build” makes one.`);
      const rows = images.map((each) => rowOf(each));
      output.table(columns, rows);
    },
  );
  return undefined;
}

function summaryOf({
  digest,
  suite,
  architecture,
  kernelVersion,
  runner,
  createdAt,
}: ListedImage["manifest"]) {
  return {
    digest,
    suite,
    architecture,
    kernelVersion,
    runner: { kind: runner.kind, version: runner.version },
    createdAt,
  };
}

function rowOf({ names, manifest, bytes, publications }: ListedImage): string[] {
  const { digest, suite, kernelVersion, runner, createdAt } = manifest;
  return [
    names.join(", ") || "-",
    digest.replace("sha256:", "").slice(0, 12),
    suite,
    kernelVersion,
    `${runner.kind} ${runner.version}`,
    formatBytes(bytes),
    clockTime(createdAt),
    publications.map(({ registry, name }) => `${registry}/${name}`).join(", ") || "-",
  ];
}
