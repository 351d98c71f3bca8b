/** The calls as the daemon carries them out: at once, into the store; all else is the worker's. */
import { createHash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import {
  type CreateMicroVMRequest,
  CreateMicroVMResponseSchema,
  type DeleteMicroVMRequest,
  DeleteMicroVMResponseSchema,
  type GetMicroVMRequest,
  GetMicroVMResponseSchema,
  type ListedMicroVM,
  ListedMicroVMSchema,
  type ListMicroVMsRequest,
  ListMicroVMsResponseSchema,
} from "../../src/vm/flintlock/gen/service_pb.js";
import {
  MicroVMSchema,
  type MicroVMSpec,
  MicroVMStatus_State as State,
} from "../../src/vm/flintlock/gen/types_pb.js";
import type { StoredMachine } from "./content.ts";
import * as faults from "./faults.ts";
import type { Host } from "./host.ts";
import type { Misbehaviour } from "./options.ts";
import { hasSlash } from "./reconcile.ts";
import { deathAtStart, serverSpec, toMessage } from "./spec.ts";
import { ulid } from "./ulid.ts";
import { checkSpec } from "./validate.ts";

/** What the calls need of the running daemon. */
export interface ServiceDaemon {
  announce(uid: string): void;
  /** The process is gone; what is returned never reaches anybody. */
  crash(reason: string): Error;
}

export function createService(host: Host, daemon: () => ServiceDaemon) {
  const { content, settings } = host;
  const { misbehaviour } = settings;
  let listsDuringDelete = 0;

  function createMicroVM({ microvm }: CreateMicroVMRequest) {
    if (host.isContainerdDown) throw faults.notCreated(faults.containerdGone);
    if (!microvm) throw faults.noSpec();
    if (!microvm.id) throw faults.noName();
    if (hasEmptyOverrides(microvm) && misbehaviour.emptyOverridesPanic)
      throw daemon().crash("panic: nil pointer dereference: convert.go");
    checkSpec(microvm);
    const uid = ulid(settings.clock.now(), settings.random);
    const spec = serverSpec(microvm, uid);
    refuseHopeless(spec, misbehaviour);
    const stored = content.save({ uid, spec, state: State.PENDING, retry: 0, notBeforeAt: 0 });
    daemon().announce(uid);
    return create(CreateMicroVMResponseSchema, { microvm: toMessage(stored) });
  }

  function deleteMicroVM({ uid }: DeleteMicroVMRequest) {
    if (!uid) throw faults.noUid();
    const machine = find(uid, faults.deleteFailed);
    content.save({ ...machine, state: State.DELETING, retry: 0 });
    daemon().announce(uid);
    return create(DeleteMicroVMResponseSchema);
  }

  function getMicroVM({ uid }: GetMicroVMRequest) {
    if (!uid) throw faults.noUid();
    return create(GetMicroVMResponseSchema, { microvm: toMessage(find(uid, faults.getFailed)) });
  }

  function listMicroVMs({ namespace, name }: ListMicroVMsRequest) {
    if (host.isContainerdDown) throw faults.listFailed({ namespace, name }, faults.containerdGone);
    const machines = content
      .all()
      .filter(({ spec }) => namespace === "" || spec.namespace === namespace)
      .filter(({ spec }) => name === undefined || spec.id === name);
    const poison = machines.find(hasSlash);
    if (poison) throw faults.listFailed({ namespace, name }, faults.badVmid(vmid(poison)));
    failDuringDelete(machines, { namespace, name });
    return create(ListMicroVMsResponseSchema, { microvm: machines.map(toListed) });
  }

  /** A version of a machine's content goes away between the daemon's walk and its read. */
  function failDuringDelete(
    machines: readonly StoredMachine[],
    filter: { namespace: string; name: string | undefined },
  ) {
    const leaving = machines.find(({ state }) => state === State.DELETING);
    const every = misbehaviour.listFailsWhileDeleting;
    if (!leaving || every === 0 || ++listsDuringDelete % every !== 0) return;
    const digest = createHash("sha256").update(`${leaving.uid} ${leaving.version}`).digest("hex");
    throw faults.listFailed(filter, faults.contentGone(digest));
  }

  function find(uid: string, failed: (uid: string, reason?: string) => ConnectError): StoredMachine {
    if (host.isContainerdDown) throw failed(uid, faults.containerdGone);
    const machine = content.get(uid);
    if (!machine) throw failed(uid);
    if (hasSlash(machine)) throw failed(uid, faults.badVmid(vmid(machine)));
    return machine;
  }

  return { createMicroVM, deleteMicroVM, getMicroVM, listMicroVMs };
}

/** The whole machine: what the product does not read of it travels as fields that are unknown to it. */
function toListed(machine: StoredMachine): ListedMicroVM {
  return fromBinary(ListedMicroVMSchema, toBinary(MicroVMSchema, toMessage(machine)));
}

function vmid({ spec, uid }: StoredMachine): string {
  return `${spec.namespace}/${spec.id}/${uid}`;
}

function hasEmptyOverrides({ interfaces }: MicroVMSpec): boolean {
  return interfaces.some(({ overrides }) => overrides && overrides.bridgeName === undefined);
}

/** With a misbehaviour mended, what led to it is refused. */
function refuseHopeless(spec: MicroVMSpec, misbehaviour: Misbehaviour): void {
  if (!misbehaviour.crashesWithoutKernel && !spec.kernel) throw faults.invalidSpec(["Kernel required"]);
  const names = `${spec.namespace}${spec.id}`;
  if (!misbehaviour.slashPoisonsList && names.includes("/")) throw faults.notCreated("a name has a slash");
  const death = deathAtStart(spec);
  if (!misbehaviour.deadButCreated && death !== undefined) throw faults.notCreated(death);
}
