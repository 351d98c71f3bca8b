import type { Command } from "commander";
import { stringify } from "yaml";
import { USUAL_WIDTH } from "../base/text.ts";
import { hostNotes } from "../config/hosts.ts";
import type { Config } from "../config/load.ts";
import { abilitiesByImage } from "../config/machine-kinds.ts";
import type { ConfigValue } from "../config/values.ts";
import { configJsonSchema } from "../config/values.ts";
import { imageDirectory } from "../image/config.ts";
import type { Run } from "./context.ts";
import { openImages } from "./image/place.ts";
import { counted } from "./messages.ts";
import type { Output } from "./output.ts";

/** Columns; the origins of longer settings stand further to the right. */
const MOST_SETTING = 40;

export function addConfig(program: Command, run: Run): void {
  const config = program.command("config").description("look at the configuration");
  config
    .command("check")
    .description("read it as “start” would, and name every mistake with its line")
    .action(
      run(async ({ output, loadConfig }) => {
        const config = await loadConfig();
        const { file, pools, state } = config;
        const notes = await notesOn(config);
        const from = file ?? "the environment";
        const tags = config.webhook && scopeInWords(config.webhook);
        output.result(
          { ok: true, file: file ?? null, pools: [...pools.keys()], tags: tags ?? null, state, notes },
          () => {
            output.line(`${from} is in order: ${whatIsServed(pools, tags)}, state in ${state}`);
            for (const { problem, hint } of notes) {
              output.line(output.paint("yellow", `! ${problem}`));
              output.line(`  → ${hint}`);
            }
          },
        );
        return undefined;
      }),
    );
  config
    .command("show")
    .description("every setting in force and where it came from; never a secret")
    .action(
      run(async ({ output, loadConfig }) => {
        const { values } = await loadConfig();
        output.result(
          values.map(({ path, value, origin }) => ({ key: path.join("."), value, origin })),
          () => printValues(output, values),
        );
        return undefined;
      }),
    );
  config
    .command("schema")
    .description("JSON Schema of the configuration file, for editors")
    .action(
      run(async ({ stdout }) => {
        stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`);
        return undefined;
      }),
    );
}

/** Images that are here and were built by an earlier release. A place that cannot be read is for “doctor” to tell. */
async function notesOn(config: Config) {
  const { imageNotes } = await import("../image/open-images.ts");
  const store = await openImages(imageDirectory(config));
  const ofImages = await imageNotes(store, abilitiesByImage(config)).catch(() => []);
  return [...config.notes, ...hostNotes(config.hosts), ...ofImages];
}

/** The settings as YAML that could be used again, each with its origin beside it, or above it where there is no room. */
function printValues(output: Output, values: readonly ConfigValue[]): void {
  const lines: { text: string; origin: string }[] = [];
  let open: readonly string[] = [];
  for (const { path, value, origin } of values) {
    const shared = path.findIndex((key, depth) => depth === path.length - 1 || open[depth] !== key);
    for (let depth = shared; depth < path.length - 1; depth++) {
      lines.push({ text: `${"  ".repeat(depth)}${path[depth]}:`, origin: "" });
    }
    const text = stringify(value, { collectionStyle: "flow", lineWidth: 0 }).trimEnd();
    lines.push({ text: `${"  ".repeat(path.length - 1)}${path.at(-1)}: ${text}`, origin });
    open = path.slice(0, -1);
  }
  const width = Math.min(MOST_SETTING, Math.max(...lines.map(({ text }) => text.length)));
  for (const line of lines) printValue(output, line, width);
}

function printValue(output: Output, { text, origin }: { text: string; origin: string }, width: number): void {
  const comment = output.paint("dim", `# ${origin}`);
  const indent = /^ */.exec(text)?.[0] ?? "";
  if (origin === "") output.exact(text);
  else if (Math.max(text.length, width) + origin.length + 4 <= USUAL_WIDTH)
    output.exact(`${text.padEnd(width)}  ${comment}`);
  else for (const line of [`${indent}${comment}`, text]) output.exact(line);
}

function whatIsServed(pools: Config["pools"], tags: string | undefined): string {
  const names = `${counted(pools.size, "pool")} (${[...pools.keys()].join(", ")})`;
  if (tags === undefined) return names;
  return pools.size === 0 ? `jobs by tag of ${tags}` : `${names}, jobs by tag of ${tags}`;
}

function scopeInWords({ group, project }: NonNullable<Config["webhook"]>): string {
  if (group !== undefined) return `group ${group}`;
  return project === undefined ? "the whole GitLab" : `project ${project}`;
}
