/**
 * What flintlockd answers when it does not do what it is asked, by code and text. Nearly everything is UNKNOWN (2), so the text
 * decides; the texts are those of v0.11.0.
 */
import { Code } from "@connectrpc/connect";
import { callFailure, type FailureRow, hostFailure } from "./failure.ts";

const notFlintlockd = hostFailure(
  "vm_host_protocol",
  "what answers there is not flintlockd",
  "correct the host's address: another service listens there",
);

/** Of a list that came while a machine was being deleted: the next one is good. */
export const listDisturbed = callFailure(
  "vm_host_refused",
  "a machine went away while it was looked for",
  "nothing: it is asked again",
  true,
);

export const daemonFailures: readonly FailureRow[] = [
  {
    // containerd's client says so whatever was asked of it.
    text: /transport: error while dialing|containerd\.sock/i,
    means: hostFailure(
      "vm_host_sick",
      "containerd does not answer it",
      "start containerd on the host, and then restart flintlockd: it hears nothing of a containerd that was restarted below it; machines run on",
    ),
  },
  {
    grpc: Code.Unauthenticated,
    text: /could not extract token/,
    means: ({ token }) =>
      hostFailure(
        "vm_host_credentials",
        token ? "it does not find the token that we send" : "it asks for a token, and none is configured",
        "give the host's entry flintlockd's --basic-auth-token as token or tokenFile",
      ),
  },
  {
    grpc: Code.Unauthenticated,
    means: hostFailure(
      "vm_host_credentials",
      "it refuses our token",
      "give the host's entry the token that flintlockd was started with (--basic-auth-token)",
    ),
  },
  { grpc: Code.Unimplemented, means: notFlintlockd },
  { text: /unsupported content type|^\[\w+\] HTTP \d+|missing trailer/, means: notFlintlockd },
  {
    text: /unexpected vmid format: ([^\s,;]+)/,
    means: (_, [, vmid = ""]) =>
      callFailure(
        "vm_host_sick",
        "a machine with a name that flintlockd cannot read breaks its list",
        `on the host: ctr -n flintlock leases rm flintlock/${vmid.replace(/^flintlock\//, "")}`,
        true,
      ),
  },
  {
    text: /failed reading from content store/,
    means: listDisturbed,
  },
  {
    text: /microvm spec \S* ?not found/,
    means: callFailure(
      "vm_host_unknown_machine",
      "it does not know the machine",
      "nothing: it is gone",
      true,
    ),
  },
  {
    text: /validation failures found: (.*)/s,
    means: (_, [, rules = ""]) =>
      callFailure(
        "vm_host_refused",
        `it finds ${fieldsIn(rules)} not acceptable`,
        "correct the size or the host's network settings",
        false,
      ),
  },
  {
    text: /not supported by the microvm provider|isn't available/,
    means: callFailure(
      "vm_host_refused",
      "its hypervisor cannot run such a machine",
      "look at flintlockd's --default-provider and --firecracker-bin on the host",
      true,
    ),
  },
  {
    grpc: Code.ResourceExhausted,
    means: hostFailure("vm_host_refused", "it asks us to be less busy", "nothing: it is asked again later"),
  },
  {
    grpc: Code.DeadlineExceeded,
    means: hostFailure("vm_host_timeout", "it did not answer in time", "look at the host's load"),
  },
  {
    grpc: Code.Unavailable,
    means: hostFailure(
      "vm_host_unreachable",
      "the connection ended before the answer",
      "look at flintlockd's log on the host: it may have crashed",
    ),
  },
  {
    grpc: Code.InvalidArgument,
    means: callFailure(
      "vm_host_refused",
      "it finds the request wrong",
      "look at flintlockd's version",
      false,
    ),
  },
];

/** `'MicroVM.Spec.VCPU'` → `VCPU`: the rules' own sentence is in the cause. */
function fieldsIn(rules: string): string {
  const names = [...rules.matchAll(/Key: 'MicroVM\.Spec\.([^']+)'/g)].map(([, name]) => name);
  return names.length === 0 ? "the machine" : `the machine's ${names.join(", ")}`;
}
