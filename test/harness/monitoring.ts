/** What an operator puts beside FireRunner: a real Prometheus that reads it by TLS with a token, a real Alertmanager, and who hears of alerts. */
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { freePort } from "../../src/demo/workspace.ts";
import { makeCertificateAuthority } from "../servers/certificates.ts";
import { startHttpServer } from "../servers/http-server.ts";
import { type Prometheus, startAlertmanager, startPrometheus } from "../servers/prometheus.ts";
import { eventually } from "./eventually.ts";

const TOKEN = "the-token-of-prometheus";
const deploy = join(import.meta.dirname, "../../deploy/monitoring");

/** An alert as it comes to a webhook. */
interface Told {
  readonly status: "firing" | "resolved";
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** The receiver of Alertmanager's configuration by which it came. */
  readonly receiver: string;
}

interface Message {
  readonly receiver: string;
  readonly alerts: readonly Omit<Told, "receiver">[];
}

interface AlertmanagerConfig {
  readonly route: object;
  readonly receivers: readonly { readonly name: string }[];
}

export interface Monitoring extends AsyncDisposable {
  readonly prometheus: Prometheus;
  /** `metrics` of FireRunner's configuration: where Prometheus looks, and no other place. */
  readonly metrics: Readonly<Record<string, unknown>>;
  /** How FireRunner's page is asked for. */
  readonly client: { readonly ca: string; readonly token: string };
  /** Every alert that came, and each end, oldest first. */
  told(): readonly Told[];
  /** Names of alerts that are kept back while a larger one is told. */
  inhibited(): Promise<readonly string[]>;
  /** Waits for the alert, or its end. */
  hears(status: Told["status"], name: string): Promise<Told>;
}

/** The rules with their times pulled together: what is looked at over minutes and days is looked at over the last seconds, and none waits. */
function quickRules(): string {
  return readFileSync(join(deploy, "prometheus/firerunner.rules.yml"), "utf8")
    .replaceAll(/\[\d+[mhd]\]/g, "[6s]")
    .replaceAll(/^( +for:) \d+m$/gm, "$1 0s");
}

export async function startMonitoring(): Promise<Monitoring> {
  const directory = await mkdtemp(join(tmpdir(), "fr-monitoring-"));
  const place = async (name: string, content: string) => {
    await writeFile(join(directory, name), content, { mode: 0o600 });
    return join(directory, name);
  };
  await using authority = await makeCertificateAuthority();
  const { key, cert } = await authority.issue("127.0.0.1");
  const target = `127.0.0.1:${await freePort()}`;
  const tokenFile = await place("token", TOKEN);
  const tls = { certificateFile: await place("tls.crt", cert), keyFile: await place("tls.key", key) };
  const receiver = await startHttpServer((_request, response) => response.end());
  const alertmanager = await startAlertmanager(alertmanagerConfig(receiver.url));
  const config = prometheusConfig(new URL(alertmanager.url).host, {
    scheme: "https",
    tls_config: { ca_file: await place("ca.pem", authority.ca) },
    authorization: { credentials_file: tokenFile },
    static_configs: [{ targets: [target] }],
  });
  const prometheus = await startPrometheus({ config, files: { "rules.yml": quickRules() } });
  const told = () =>
    receiver.seen.flatMap(({ body }) => {
      const message = JSON.parse(body) as Message;
      return message.alerts.map((alert) => ({ ...alert, receiver: message.receiver }));
    });

  return {
    prometheus,
    metrics: { listen: [target], tls, tokenFile, compatibility: "gitlab-runner" },
    client: { ca: authority.ca, token: TOKEN },
    told,
    inhibited: alertmanager.inhibited,
    hears: (status, name) =>
      eventually(`${name} is told as ${status}`, () =>
        told().findLast((each) => each.status === status && each.labels["alertname"] === name),
      ),
    async [Symbol.asyncDispose]() {
      await prometheus[Symbol.asyncDispose]();
      await alertmanager[Symbol.asyncDispose]();
      await receiver[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** The example with its times pulled together, and one place for all its receivers. */
function alertmanagerConfig(url: string): object {
  const text = readFileSync(join(deploy, "alertmanager/alertmanager.example.yml"), "utf8");
  const example = parse(text) as AlertmanagerConfig;
  const atOnce = { group_wait: "0s", group_interval: "1s" };
  return {
    ...example,
    route: { ...example.route, ...atOnce },
    receivers: example.receivers.map(({ name }) => ({ name, webhook_configs: [{ url }] })),
  };
}

/** FireRunner answers twice a second at most, so that once a second is as often as it can be asked. */
function prometheusConfig(alertmanager: string, job: object): object {
  return {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "500ms" },
    rule_files: ["rules.yml"],
    alerting: { alertmanagers: [{ static_configs: [{ targets: [alertmanager] }] }] },
    scrape_configs: [{ job_name: "firerunner", ...job }],
  };
}
