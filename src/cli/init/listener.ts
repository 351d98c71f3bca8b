import { hostname } from "node:os";
import { resolve } from "node:path";
import { readLocalFile, tlsFileProblem } from "../../config/named-files.ts";
import { CliError } from "../errors.ts";
import type { Prompter } from "./prompter.ts";

/** How GitLab reaches FireRunner. */
export interface ListenerAnswers {
  /** As in `http.listen`. */
  readonly listen: string;
  /** As in `webhook.url`. */
  readonly url: string;
  /** Undefined behind a proxy that ends TLS. */
  readonly tls: { readonly certificateFile: string; readonly keyFile: string } | undefined;
}

export interface ListenerQuestionOptions {
  readonly webhookUrl?: string | undefined;
  readonly listen?: string | undefined;
  readonly certificate?: string | undefined;
  readonly certificateKey?: string | undefined;
}

const TLS_LISTEN = "0.0.0.0:8443";
const PROXIED_LISTEN = "http://127.0.0.1:8080";

/** Undefined when GitLab is not to call. */
export async function askListener(
  options: ListenerQuestionOptions,
  asker: Prompter,
): Promise<ListenerAnswers | undefined> {
  const reach = givenReach(options) ?? (asker.canAsk ? await chooseReach(asker) : "none");
  if (reach === "none") return undefined;
  const tls = reach === "tls" ? await askTls(options, asker) : undefined;
  const listen = options.listen ?? (tls ? TLS_LISTEN : PROXIED_LISTEN);
  return { listen, url: await askWebhookUrl(options, asker, tls !== undefined), tls };
}

type Reach = "tls" | "proxy" | "none";

function givenReach({
  webhookUrl,
  listen,
  certificate,
  certificateKey,
}: ListenerQuestionOptions): Reach | undefined {
  if (certificate !== undefined || certificateKey !== undefined) return "tls";
  if (listen !== undefined) return listen.startsWith("http://") ? "proxy" : "tls";
  return webhookUrl === undefined ? undefined : "proxy";
}

async function chooseReach(asker: Prompter): Promise<Reach> {
  return await asker.choose<Reach>({
    message: "How is GitLab to reach this computer, to tell of new jobs at once?",
    option: "--webhook-url",
    choices: [
      { value: "tls", label: "directly", hint: `${TLS_LISTEN}; needs a certificate` },
      { value: "proxy", label: "through a proxy on this computer that ends TLS", hint: PROXIED_LISTEN },
      { value: "none", label: "not at all", hint: "jobs are found within a minute, by looking" },
    ],
  });
}

async function askTls(
  { certificate, certificateKey }: ListenerQuestionOptions,
  asker: Prompter,
): Promise<{ certificateFile: string; keyFile: string }> {
  return {
    certificateFile: await askPem(asker, certificate, {
      holds: "CERTIFICATE",
      message: "Which file holds the certificate, with its chain (PEM)?",
      option: "--certificate",
    }),
    keyFile: await askPem(asker, certificateKey, {
      holds: "PRIVATE KEY",
      message: "And its private key?",
      option: "--certificate-key",
    }),
  };
}

async function askPem(
  asker: Prompter,
  given: string | undefined,
  { holds, ...question }: { holds: "CERTIFICATE" | "PRIVATE KEY"; message: string; option: string },
): Promise<string> {
  let path = given;
  for (;;) {
    path = resolve(path ?? (await asker.text(question)));
    const problem = await tlsFileProblem(path, holds, readLocalFile);
    if (problem === undefined) return path;
    if (!asker.canAsk) throw new CliError("cli_setup", problem);
    asker.show({ level: "fail", message: problem });
    path = undefined;
  }
}

async function askWebhookUrl(
  { webhookUrl }: ListenerQuestionOptions,
  asker: Prompter,
  isDirect: boolean,
): Promise<string> {
  if (webhookUrl !== undefined) {
    const problem = urlProblem(webhookUrl);
    if (problem === undefined) return webhookUrl;
    throw new CliError("cli_usage", `--webhook-url: ${problem}`);
  }
  return await asker.text({
    message: "Under which address does GitLab reach it?",
    option: "--webhook-url",
    initial: `https://${hostname()}${isDirect ? ":8443" : ""}/webhook`,
    problem: urlProblem,
  });
}

function urlProblem(text: string): string | undefined {
  const isAddress = /^https?:\/\//.test(text) && URL.canParse(text);
  return isAddress ? undefined : "An address such as https://firerunner.example.org:8443/webhook is wanted.";
}
