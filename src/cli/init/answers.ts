/** The questions of `init`, each with its check. What was given as an option is checked in the same way and not asked for. */

import { resolve } from "node:path";
import type { Secret } from "../../base/secret.ts";
import { readLocalFile, readSecretFile } from "../../config/named-files.ts";
import { checkApiToken } from "../../config/secrets.ts";
import type { GitLabPlace, ScopeName } from "../../operations/setup-checks.ts";
import { CliError } from "../errors.ts";
import { askListener, type ListenerAnswers, type ListenerQuestionOptions } from "./listener.ts";
import { failUnlessAsked, isAccepted, type Prompter, type Questions } from "./prompter.ts";

export interface Answers {
  readonly place: GitLabPlace;
  readonly token: GivenToken;
  readonly scope: ScopeName;
  /** Undefined: GitLab is not to call, and jobs are found by looking. */
  readonly listener: ListenerAnswers | undefined;
}

export interface AnswerOptions extends TokenOptions, ListenerQuestionOptions {
  readonly url?: string | undefined;
  readonly caFile?: string | undefined;
  readonly group?: string | undefined;
  readonly project?: string | undefined;
  readonly instance?: true | undefined;
}

/** Throws CliError: `cli_usage` for what is missing, `cli_setup` for what does not work and nobody can be asked about. */
export async function askAll(options: AnswerOptions, questions: Questions): Promise<Answers> {
  const place = await askPlace(options, questions);
  const token = await askToken(options, place, questions);
  const scope = await askScope(options, place, token.secret, questions);
  const listener = await askListener(options, questions.asker);
  return { place, token, scope, listener };
}

async function askPlace({ url, caFile }: AnswerOptions, questions: Questions): Promise<GitLabPlace> {
  const { asker, checks, signal } = questions;
  let place: GitLabPlace = { url: plainUrl(url ?? (await askUrl(asker))), caFile };
  for (;;) {
    const finding = await checks.checkPlace(place, signal);
    asker.show(finding);
    if (finding.level !== "fail") return place;
    failUnlessAsked([finding], asker);
    place = finding.untrusted
      ? { ...place, caFile: await askCaFile(asker) }
      : { url: plainUrl(await askUrl(asker, place.url)), caFile: place.caFile };
  }
}

async function askUrl(asker: Prompter, initial?: string): Promise<string> {
  return await asker.text({
    message: "Where is your GitLab?",
    option: "--url",
    placeholder: "https://gitlab.example.org",
    ...(initial === undefined ? {} : { initial }),
    problem: (text) =>
      /^https?:\/\//.test(plainUrl(text)) && URL.canParse(plainUrl(text))
        ? undefined
        : "An address such as https://gitlab.example.org is wanted.",
  });
}

/** People leave out the scheme and paste what stands behind the address. */
function plainUrl(text: string): string {
  const whole = /^[a-z]+:\/\//i.test(text) ? text : `https://${text}`;
  return whole.replace(/\/+$/, "");
}

async function askCaFile(asker: Prompter): Promise<string> {
  return await asker.text({
    message: "Which file holds the certificate of the authority behind GitLab's (PEM)?",
    option: "--ca-file",
    placeholder: "/etc/ssl/certs/company-ca.pem",
  });
}

/** The API token, and the file in which it stands already, if it does. */
interface GivenToken {
  readonly secret: Secret;
  /** Undefined: it was typed, and gets a file of its own. */
  readonly file: string | undefined;
}

interface TokenOptions {
  readonly tokenFile?: string | undefined;
  /** Of the environment; never of the command line, which others can read. */
  readonly tokenText?: string | undefined;
}

const MESSAGE = "An access token of GitLab's API (scope api, made by an Owner)?";

async function askToken(
  options: TokenOptions,
  place: GitLabPlace,
  { asker, checks, signal }: Questions,
): Promise<GivenToken> {
  let token = await givenToken(options);
  for (;;) {
    token ??= { secret: await typedToken(), file: undefined };
    const findings = await checks.checkToken(place, token.secret, signal);
    for (const finding of findings) asker.show(finding);
    if (await isAccepted(findings, asker)) return token;
    token = undefined;
  }

  async function typedToken(): Promise<Secret> {
    const typed = await asker.secret({
      message: MESSAGE,
      option: "--token-file or $FIRERUNNER_WEBHOOK__API_TOKEN",
      problem: (text) => {
        const checked = checkApiToken(text, "what you typed");
        return "problem" in checked ? checked.problem : undefined;
      },
    });
    return secretOf(typed, "what you typed");
  }
}

async function givenToken({ tokenFile, tokenText }: TokenOptions): Promise<GivenToken | undefined> {
  if (tokenFile !== undefined) {
    const file = resolve(tokenFile);
    const options = { readFile: readLocalFile, besideFile: undefined, credentialsDirectory: undefined };
    const checked = await readSecretFile(file, checkApiToken, options);
    if ("problem" in checked) throw new CliError("cli_setup", checked.problem);
    return { secret: checked.value, file };
  }
  if (tokenText === undefined) return undefined;
  return { secret: secretOf(tokenText.trim(), "FIRERUNNER_WEBHOOK__API_TOKEN"), file: undefined };
}

function secretOf(text: string, where: string): Secret {
  const checked = checkApiToken(text, where);
  if ("problem" in checked) throw new CliError("cli_setup", checked.problem);
  return checked.value;
}

async function askScope(
  options: AnswerOptions,
  place: GitLabPlace,
  token: Secret,
  { asker, checks, signal }: Questions,
): Promise<ScopeName> {
  let scope = givenScope(options);
  for (;;) {
    scope ??= await chooseScope(asker);
    const findings = await checks.checkScope(place, token, scope, signal);
    for (const finding of findings) asker.show(finding);
    if (await isAccepted(findings, asker)) return scope;
    scope = undefined;
  }
}

function givenScope({ group, project, instance }: AnswerOptions): ScopeName | undefined {
  if ([group, project, instance].filter((each) => each !== undefined).length > 1) {
    throw new CliError("cli_usage", "--group, --project and --instance exclude each other");
  }
  if (group !== undefined) return { kind: "group", name: group };
  if (project !== undefined) return { kind: "project", name: project };
  return instance === true ? { kind: "instance" } : undefined;
}

async function chooseScope(asker: Prompter): Promise<ScopeName> {
  const kind = await asker.choose({
    message: "Whose jobs are to run here?",
    option: "--group, --project or --instance",
    choices: [
      { value: "group", label: "those of a group, with its subgroups" },
      { value: "project", label: "those of one project" },
      { value: "instance", label: "those of the whole GitLab", hint: "needs an administrator's token" },
    ],
  });
  if (kind === "instance") return { kind };
  const example = kind === "group" ? "engineering" : "engineering/app";
  const name = await asker.text({
    message: `Which ${kind}? Its path or its number.`,
    option: `--${kind}`,
    placeholder: example,
    problem: (text) => (/^[^\s/:][^\s:]*$/.test(text) ? undefined : `A path such as ${example} is wanted.`),
  });
  return { kind, name: name.replace(/\/+$/, "") };
}
