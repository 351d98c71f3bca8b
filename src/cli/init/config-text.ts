import { stringify } from "yaml";
import type { GitLabPlace, ScopeName } from "../../operations/setup-checks.ts";
import type { ListenerAnswers } from "./listener.ts";

export interface ConfigFacts {
  readonly place: GitLabPlace;
  readonly scope: ScopeName;
  /** As the configuration names them: relative names lie beside it. */
  readonly apiTokenFile: string;
  readonly signingKeyFile: string;
  readonly listener: ListenerAnswers | undefined;
}

/** A configuration for jobs by tag, with what could be changed as comments. */
export function configText({ place, scope, apiTokenFile, signingKeyFile, listener }: ConfigFacts): string {
  const example = scope.kind === "instance" ? "the whole GitLab" : `${scope.kind} ${scope.name}`;
  return `# FireRunner's configuration, as “firerunner init” wrote it. docs/configuration.md explains every key; “firerunner config check”
# finds mistakes, and “firerunner reload” makes a running FireRunner read it again.
gitlab:
  url: ${scalar(place.url)}
${place.caFile === undefined ? "  # caFile: /etc/ssl/certs/company-ca.pem   # for a private certificate authority" : `  caFile: ${scalar(place.caFile)}`}

# Every job of ${inComment(example)} whose tags name a size gets a machine of that size:
#   tags: [firecracker-2cpu-4gb]
webhook:
  ${scopeLine(scope)}
  apiTokenFile: ${scalar(apiTokenFile)}
${listenerKeys(listener, signingKeyFile)}
  sizes:
    # The most that a tag may ask for.
    maxCpus: 16
    maxMemory: 64GiB
  # What a tag does not say.
  machine:
    # With podman, for jobs that name an image or services; base has the machine's own system alone.
    image: containers
    disk: 20GiB
    # What machines may reach beside GitLab: internet (public addresses only), none, or a list of host:port.
    egress: internet
  # Other tags of a job choose another image, or the image, driver, disk and egress of a pool.
  # rules:
  #   - { tag: compilers, image: full }
  # runners:
  #   protected: true     # serve protected branches and tags only
  #   keepUnused: 24h     # how long GitLab keeps a runner that no job asks for

${httpSection(listener)}

# Where the store, sockets and machines lie. Default: /var/lib/firerunner for root, else ~/.local/state/firerunner.
# state: /var/lib/firerunner
`;
}

function scopeLine(scope: ScopeName): string {
  return scope.kind === "instance" ? "instance: true" : `${scope.kind}: ${scalar(scope.name)}`;
}

function listenerKeys(listener: ListenerAnswers | undefined, signingKeyFile: string): string {
  if (listener === undefined) {
    return `  # GitLab does not call: new jobs are found by looking.
  # signingKeyFile: webhook.key
  # url: https://firerunner.example.org:8443/webhook
  poll:
    interval: 60s`;
  }
  return `  # What proves that a webhook comes from GitLab. One older than 19.0 does not sign: use tokenFile for it.
  signingKeyFile: ${scalar(signingKeyFile)}
  # tokenFile: webhook.token
  # The address under which GitLab reaches the public server below.
  url: ${scalar(listener.url)}`;
}

function httpSection(listener: ListenerAnswers | undefined): string {
  if (listener === undefined) {
    return `# The public server for webhooks; “firerunner webhook install” tells GitLab of it.
# http:
#   listen: ["0.0.0.0:8443"]
#   tls: { certificateFile: tls.crt, keyFile: tls.key }`;
  }
  const listen = `# The public server for webhooks. /healthz and /readyz answer there too.
http:
  listen: [${scalar(listener.listen)}]`;
  if (listener.tls === undefined) {
    const proxies = listener.listen.startsWith("http://127.") ? "[127.0.0.1]" : "[]";
    return `${listen}
  # Whose X-Forwarded-For is believed: the proxy that ends TLS.
  trustedProxies: ${proxies}`;
  }
  return `${listen}
  tls:
    # Both are read again when they change.
    certificateFile: ${scalar(listener.tls.certificateFile)}
    keyFile: ${scalar(listener.tls.keyFile)}`;
}

/** Always quoted: a path may look like a number, and an address like a map. */
function scalar(text: string): string {
  return stringify(text, { defaultStringType: "QUOTE_DOUBLE", lineWidth: 0 }).trim();
}

function inComment(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
}
