import { existsSync } from "node:fs";
import { dirname, isAbsolute, join, relative } from "node:path";
import type { Secret } from "../../base/secret.ts";
import { readLocalFile, readSecretFile } from "../../config/named-files.ts";
import { checkSigningKeys } from "../../config/secrets.ts";
import { CliError } from "../errors.ts";
import { type AnswerOptions, type Answers, askAll } from "./answers.ts";
import { configText } from "./config-text.ts";
import { type NewFile, tryFiles, writeFiles } from "./new-files.ts";
import type { Questions } from "./prompter.ts";

export interface InitOptions extends AnswerOptions {
  /** Where the configuration is to be; the secrets go beside it. Absolute. */
  readonly configFile: string;
  /** Replace what is there without asking. */
  readonly force: boolean;
  readonly newSigningKey: () => Secret;
}

export interface InitResult {
  readonly configFile: string;
  /** All files that were written, the configuration last. */
  readonly files: readonly string[];
  /** Whether GitLab is to be told where FireRunner listens. */
  readonly hasListener: boolean;
}

/** Asks, checks, and writes at the very end: whoever leaves before has changed nothing. */
export async function runInit(options: InitOptions, questions: Questions): Promise<InitResult> {
  const { configFile, force } = options;
  await allowReplacing(configFile, force, questions);
  const answers = await askAll(options, questions);
  const files = await planFiles(options, answers);
  await tryFiles(configFile, files);
  // The configuration was asked about before, so that nobody answers all questions in vain.
  for (const { path } of files) if (path !== configFile) await allowReplacing(path, force, questions);
  questions.signal.throwIfAborted();
  await writeFiles(files);
  return { configFile, files: files.map(({ path }) => path), hasListener: answers.listener !== undefined };
}

async function allowReplacing(path: string, force: boolean, { asker }: Questions): Promise<void> {
  if (force || !existsSync(path)) return;
  const isAllowed = await asker.confirm({
    message: `${path} exists. Replace it?`,
    option: "--force",
    initial: false,
  });
  if (!isAllowed) throw new CliError("cli_canceled", `${path} was left as it is; nothing was written`);
}

/** Secrets first, the configuration that names them last. */
async function planFiles(
  options: InitOptions,
  { place, token, scope, listener }: Answers,
): Promise<NewFile[]> {
  const directory = dirname(options.configFile);
  const secrets: NewFile[] = [];
  let apiTokenFile = token.file;
  if (apiTokenFile === undefined) {
    apiTokenFile = join(directory, "api.token");
    secrets.push({ path: apiTokenFile, text: `${token.secret.reveal()}\n`, mode: 0o600 });
  }
  const signingKeyFile = join(directory, "webhook.key");
  if (listener && !(await hasSigningKey(signingKeyFile))) {
    secrets.push({ path: signingKeyFile, text: `${options.newSigningKey().reveal()}\n`, mode: 0o600 });
  }
  const text = configText({
    place,
    scope,
    apiTokenFile: nameIn(directory, apiTokenFile),
    signingKeyFile: nameIn(directory, signingKeyFile),
    listener,
  });
  return [...secrets, { path: options.configFile, text, mode: 0o644 }];
}

/** A key that GitLab may know already is kept. */
async function hasSigningKey(path: string): Promise<boolean> {
  const options = { readFile: readLocalFile, besideFile: undefined, credentialsDirectory: undefined };
  return "value" in (await readSecretFile(path, checkSigningKeys, options));
}

/** Beside the configuration the name alone is enough, so that the directory can be moved. */
function nameIn(directory: string, path: string): string {
  const name = relative(directory, path);
  return name.startsWith("..") || isAbsolute(name) ? path : name;
}
