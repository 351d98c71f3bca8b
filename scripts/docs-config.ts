/**
 * Writes docs/configuration.md from the schema of the configuration, with docs/firerunner.example.yaml in it. `--check` writes
 * nothing and fails when the page is behind.
 *
 *   node scripts/docs-config.ts [--check]
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { configJsonSchema } from "../src/config/values.ts";
import { writePage } from "./write-page.ts";

const root = join(import.meta.dirname, "..");
const page = join(root, "docs/configuration.md");
const example = join(root, "docs/firerunner.example.yaml");

/** The part of JSON Schema that the configuration's schema uses. */
interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly examples?: readonly string[];
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly required?: readonly string[];
  readonly "x-reload"?: string;
}

interface Row {
  readonly path: readonly string[];
  readonly schema: Schema;
  readonly required: boolean;
  /** Of the key, or of the section around it. */
  readonly reload: string;
}

const head = `# Configuration

<!-- Written by scripts/docs-config.ts (npm run docs). Change the schema, not this page. -->

FireRunner reads one YAML file: the one named by \`--config\` or \`$FIRERUNNER_CONFIG\`, else \`/etc/firerunner/config.yaml\`, else
\`./firerunner.yaml\`. It is strict: an unknown key is an error that names the line and the nearest known key. \`firerunner config
check\` reports everything that is wrong at once, \`config show\` prints every setting in force with its origin (never a secret),
and \`config schema\` prints a JSON Schema for editors.

**Durations** are written \`500ms\`, \`30s\`, \`5m\`, \`1h30m\`, \`2d\`; **sizes** \`512MiB\`, \`4GiB\`, \`20GB\`.

**Environment.** Every setting can also come from a variable, which wins over the file: \`FIRERUNNER_\` and the key in capitals, with
\`__\` between levels and \`_\` before the later words of a key. \`pools.small.runner.tokenFile\` is
\`FIRERUNNER_POOLS__SMALL__RUNNER__TOKEN_FILE\`. Lists are written as in YAML: \`[a.example:443, b.example]\`.

**Two ways to jobs.** A pool with a \`runner\` claims the jobs of one runner that somebody made in GitLab. \`webhook\` serves every job of a
group, a project or a whole GitLab whose tags name a size (\`firecracker-2cpu-4gb\`): runners are made as they are needed, and pools
without a \`runner\` are kinds of machine for \`webhook.rules\`. Both ways can be used at once; \`firerunner init\` asks its way to such a file,
and [webhooks.md](webhooks.md) tells the rest.

**Secrets.** A runner's token, the API token and what proves webhooks stand in the file (\`token\`, \`apiToken\`, \`signingKey\`), in the
environment, or, best, in files of their own (\`tokenFile\`, \`apiTokenFile\`, \`signingKeyFile\`). A relative name is looked up in systemd's
credentials directory (\`LoadCredential=api.token:…\`) and then beside the configuration; so are \`http.tls.certificateFile\` and
\`http.tls.keyFile\`. A secret that everyone, or a group which is not one of FireRunner's, may read is refused
(root's own \`0440\`, as systemd and Kubernetes make it, is fine). A secret of the wrong kind is named before GitLab refuses it.

**Trust.** The configuration and every file that it names must belong to root or to the user FireRunner runs as, and neither they nor a directory on the way to them
may be writable for others (a sticky directory such as \`/tmp\` is fine; so is a user's own group where it has the user's number). The same holds for the state directory and images. What is not so is
refused at \`start\`, on reload (the old configuration stays) and by every other command, with the command that puts it right.

**Reload.** On SIGHUP or \`firerunner reload\` the file is read again. What changes of a key marked *live* takes effect at once (machines
that exist keep what they were made with; what \`image build\` alone asks for, at the next build); a key marked *restart* stays as it was
at the start, and each reload says so until there is one. The sections \`webhook\` and \`http.tls\` as a whole come and go with a restart.
A file with mistakes changes nothing.
`;

/** The whole page. `exampleText` is a configuration that works. */
export function renderPage(schema: Schema, exampleText: string): string {
  const sections = Object.entries(schema.properties ?? {}).map(([key, value]) =>
    renderSection(key, value, schema.required?.includes(key) === true),
  );
  return [head, "## Example\n", `\`\`\`yaml\n${exampleText.trimEnd()}\n\`\`\`\n`, ...sections].join("\n");
}

function renderSection(key: string, schema: Schema, required: boolean): string {
  const rows = leaves([key], schema, required, "");
  const title = typeof schema.additionalProperties === "object" ? `${key}.NAME` : key;
  const table = [
    "| key | value | default | reload | what it is |",
    "| --- | --- | --- | --- | --- |",
    ...rows.map(renderRow),
  ];
  const intro = rows.length > 1 && schema.description ? `${schema.description}\n\n` : "";
  return `## \`${title}\`\n\n${intro}${table.join("\n")}\n`;
}

function leaves(path: readonly string[], schema: Schema, required: boolean, above: string): Row[] {
  const reload = schema["x-reload"] ?? above;
  if (typeof schema.additionalProperties === "object") {
    return leaves([...path, "NAME"], schema.additionalProperties, true, reload);
  }
  const entry = schema.items;
  if (entry?.properties) {
    const within = [...path.slice(0, -1), `${path.at(-1)}[]`];
    return [{ path, schema, required, reload }, ...leaves(within, entry, true, reload)];
  }
  if (schema.properties === undefined) return [{ path, schema, required, reload }];
  return Object.entries(schema.properties).flatMap(([key, value]) =>
    leaves([...path, key], value, required && schema.required?.includes(key) === true, reload),
  );
}

function renderRow({ path, schema, required, reload }: Row): string {
  const key = `<span id="${path.join(".").toLowerCase()}">\`${path.join(".")}\`</span>`;
  const fallback =
    schema.default === undefined
      ? required
        ? "**required**"
        : ""
      : `\`${JSON.stringify(schema.default).replaceAll('"', "")}\``;
  const cells = [key, formOf(schema), fallback, reload, schema.description ?? ""];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}

function formOf(schema: Schema): string {
  if (schema.anyOf) return schema.anyOf.map(formOf).join(", or ");
  if (schema.enum) return schema.enum.map((each) => `\`${each}\``).join(", ");
  if (schema.type === "array") return `list of ${formOf(schema.items ?? {}).replaceAll(", or ", " or ")}`;
  if (schema.type === "object") return "map";
  if (schema.examples) return schema.examples.includes("4GiB") ? "size" : "duration";
  if (schema.type === "integer" || schema.type === "number") return rangeOf(schema);
  return schema.type === "string" ? "text" : (schema.type ?? "anything");
}

function rangeOf({ type, minimum, maximum }: Schema): string {
  const noun = type === "integer" ? "whole number" : "number";
  if (minimum === undefined) return noun;
  return maximum === undefined ? `${noun} from ${minimum}` : `${noun}, ${minimum} to ${maximum}`;
}

export function wantedPage(): string {
  return renderPage(configJsonSchema() as Schema, readFileSync(example, "utf8"));
}

if (import.meta.main) {
  writePage(page, wantedPage(), "the schema");
}
