import type { Clock } from "../../base/clock.ts";
import { createListeners } from "../../base/listeners.ts";
import type { ExitKind, MachineSpec, MachineStatus, RelayLink } from "../driver.ts";
import type { VmError } from "../errors.ts";

/** What goes wrong with one create; several may be combined. */
export interface CreateFault {
  /** Time that create takes. The machine is half-made meanwhile. */
  readonly delayMs?: number;
  /** Create never returns by itself. */
  readonly hang?: boolean;
  readonly fail?: VmError;
  /** The machine is made, and nobody hears of it: the call never returns by itself. */
  readonly isUnanswered?: boolean;
  /** The machine ends so long after it started, in the way of `exit` (default `killed`). */
  readonly dieAfterMs?: number;
  readonly exit?: ExitKind;
}

/** What a host is asked for. */
export interface FakeCall {
  readonly name: "create" | "destroy" | "list" | "inspect";
  /** The machine that it is about. */
  readonly id?: string;
}

/** Asked at each call; undefined means that all goes well. Set and change them at any time. */
interface FakeFaults {
  /** Before every call that a host would be asked for: rejects when it cannot be reached, and hangs as it does. */
  reach?: (call: FakeCall, signal: AbortSignal) => Promise<void> | undefined;
  create?: (spec: MachineSpec) => CreateFault | undefined;
  destroy?: (id: string) => VmError | undefined;
  list?: () => VmError | undefined;
}

/** The inside of a fake machine, for a simulation or a load run that plays the guest. */
export interface FakeGuest {
  readonly spec: MachineSpec;
  /** How it finds the relay, on a host that is not this computer. */
  readonly link: RelayLink | undefined;
  /** Aborts when the machine ends, however that happens. */
  readonly signal: AbortSignal;
  print(text: string): void;
  end(exit: ExitKind): void;
}

interface FakeMachine {
  readonly power: AbortController;
  status: MachineStatus;
  console: string;
}

/**
 * A computer in memory. It outlives its drivers as a real one outlives this program: opening a second driver on the same
 * host is a restart, and machines run on meanwhile.
 */
export interface FakeHost {
  readonly clock: Clock;
  readonly faults: FakeFaults;
  /** Called for each machine that starts. What it throws or rejects with is a crash of the guest. */
  onCreate: (guest: FakeGuest) => void | Promise<void>;
  ids(): string[];
  status(id: string): MachineStatus | undefined;
  console(id: string): string;
  print(id: string, text: string): void;
  /** The machine ends by itself. No effect on one that does not run. */
  end(id: string, exit: ExitKind): void;
  /** A machine whose create was cut off: held, not running. */
  leaveHalfMade(id: string): void;
  start(spec: MachineSpec, link?: RelayLink): void;
  /** Nothing is left of it, and nobody is told: what destroy does, and what a rebuilt host does to all. */
  remove(id: string): void;
  onEnd(listener: (id: string) => void): () => void;
  onOutput(listener: (id: string) => void): () => void;
}

export function createFakeHost(clock: Clock): FakeHost {
  const machines = new Map<string, FakeMachine>();
  const ended = createListeners<string>();
  const printed = createListeners<string>();

  function leaveHalfMade(id: string): FakeMachine {
    const machine: FakeMachine = {
      power: new AbortController(),
      status: { running: false, exit: "lost" },
      console: "",
    };
    machines.set(id, machine);
    return machine;
  }

  function start(spec: MachineSpec, link?: RelayLink): void {
    const machine = leaveHalfMade(spec.id);
    machine.status = { running: true, startedAt: clock.now() };
    const { signal } = machine.power;
    const ends = (exit: ExitKind) => end(spec.id, exit, machine);
    void play({ spec, link, signal, print: (text) => print(spec.id, text), end: ends });
  }

  async function play(guest: FakeGuest): Promise<void> {
    try {
      await host.onCreate(guest);
    } catch {
      guest.end("crash");
    }
  }

  /** `only` keeps the guest of a removed machine from ending a new one of the same id. */
  function end(id: string, exit: ExitKind, only = machines.get(id)): void {
    const machine = machines.get(id);
    if (!machine?.status.running || machine !== only) return;
    machine.status = { running: false, exit };
    machine.power.abort();
    ended.emit(id);
  }

  function print(id: string, text: string): void {
    const machine = machines.get(id);
    if (!machine) return;
    machine.console += text;
    printed.emit(id);
  }

  const host: FakeHost = {
    clock,
    faults: {},
    onCreate: () => {},
    ids: () => [...machines.keys()],
    status: (id) => machines.get(id)?.status,
    console: (id) => machines.get(id)?.console ?? "",
    print,
    end,
    leaveHalfMade,
    start,
    remove(id) {
      const machine = machines.get(id);
      machines.delete(id);
      machine?.power.abort();
      printed.emit(id);
    },
    onEnd: ended.add,
    onOutput: printed.add,
  };
  return host;
}

/** Yields what the machine prints from now on, until it has ended and all is read, or the signal aborts. */
export async function* followFakeConsole(
  host: FakeHost,
  id: string,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let seen = host.console(id).length;
  while (!signal.aborted) {
    const text = host.console(id).slice(seen);
    seen += text.length;
    if (text !== "") yield text;
    else if (host.status(id)?.running) await changed(host, id, signal);
    else return;
  }
}

function changed(host: FakeHost, id: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = (of: string) => {
      if (of !== id) return;
      for (const stop of stops) stop();
      signal.removeEventListener("abort", abort);
      resolve();
    };
    const abort = () => wake(id);
    const stops = [host.onOutput(wake), host.onEnd(wake)];
    signal.addEventListener("abort", abort, { once: true });
  });
}
