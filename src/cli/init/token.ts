import { resolve } from "node:path";
import type { Secret } from "../../base/secret.ts";
import { readLocalFile, readSecretFile } from "../../config/named-files.ts";
import { checkApiToken } from "../../config/secrets.ts";
import type { GitLabPlace } from "../../operations/setup/ports.ts";
import { CliError } from "../errors.ts";
import { isAccepted } from "./judgement.ts";
import type { Questions } from "./questions.ts";

/** The API token, and the file in which it stands already, if it does. */
export interface GivenToken {
  readonly secret: Secret;
  /** Undefined: it was typed, and gets a file of its own. */
  readonly file: string | undefined;
}

export interface TokenOptions {
  readonly tokenFile?: string | undefined;
  /** Of the environment; never of the command line, which others can read. */
  readonly tokenText?: string | undefined;
}

const MESSAGE = "An access token of GitLab's API (scope api, made by an Owner)?";

export async function askToken(
  options: TokenOptions,
  place: GitLabPlace,
  { asker, desk, signal }: Questions,
): Promise<GivenToken> {
  let token = await givenToken(options);
  for (;;) {
    token ??= { secret: await typedToken(), file: undefined };
    const findings = await desk.checkToken(place, token.secret, signal);
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
