/** Everything that can be set at the stand-in, with where it was seen. Times are those of a real flintlockd v0.11.0. */

import type { Clock } from "../../src/base/clock.ts";
import { systemClock } from "../../src/base/clock.ts";
import type { MicroVMSpec } from "../../src/vm/flintlock/gen/types_pb.js";

/** One start of a machine's process, as the guest's side sees it. */
export interface Boot {
  readonly uid: string;
  readonly id: string;
  readonly namespace: string;
  /** 1 for a fresh disk; more when the disk has been booted before. */
  readonly number: number;
  readonly spec: MicroVMSpec;
  /** What the guest's metadata service has. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Aborts when the process is gone, by its own end or a delete. */
  readonly gone: AbortSignal;
  /** The guest's own end: the process exits, the daemon does not notice. */
  exit(): void;
}

/** A real process behind the machine. */
export interface GuestProcess {
  /** Resolves when it is gone by itself or killed. */
  readonly ended: Promise<void>;
  kill(): Promise<void>;
}

export interface StandInOptions {
  /** How the daemon was started. Default: plain text, as with `--insecure`. */
  readonly security?: Security;
  /** `--basic-auth-token`. */
  readonly token?: string;
  readonly misbehaviour?: Partial<Misbehaviour>;
  readonly times?: Partial<Times>;
  /** What one real second takes here: 0.01 makes it 10 ms. */
  readonly scale?: number;
  /** `--maximum-retry`. */
  readonly maximumRetry?: number;
  /** systemd's `Restart=always`: the daemon comes back this long after a crash. Default: it stays away. */
  readonly restartAfterCrashMs?: number;
  /** Images that the host has already: no pull for them. */
  readonly localImages?: readonly string[];
  /** What the registry has; default: every image whose reference names a registry. */
  readonly registryHas?: (image: string) => boolean;
  /** Called for each start of a machine's process; what it returns lives and dies with the machine. */
  readonly onBoot?: (boot: Boot) => GuestProcess | undefined | Promise<GuestProcess | undefined>;
  readonly clock?: Clock;
  readonly random?: () => number;
}

type Security =
  | "plaintext"
  /** Neither TLS flags nor `--insecure`: the process lives and nothing listens. */
  | "none"
  | TlsSecurity;

export interface TlsSecurity {
  readonly key: string;
  readonly cert: string;
  /** `--tls-client-validate --tls-client-ca`: only clients with a certificate of this authority. */
  readonly clientCa?: string;
}

/** On: as the real one does. Off: as if that fault had been mended. */
export interface Misbehaviour {
  /** A create without kernel is accepted and kills the daemon, again at each start, until its lease is removed. */
  readonly crashesWithoutKernel: boolean;
  /** An id with `/` is accepted; List of all and of its namespace, its Get and Delete and the resync fail from then on. */
  readonly slashPoisonsList: boolean;
  /** `overrides: {}` at an interface panics the daemon, before anything is stored. */
  readonly emptyOverridesPanic: boolean;
  /** CREATED with retry 0 for machines whose process died at once: odd vcpu, `eth0`, no root volume, metadata > 51,200 B. */
  readonly deadButCreated: boolean;
  /** A create that finishes overwrites DELETING with CREATED, and the machine runs on. */
  readonly losesDeletes: boolean;
  /** A reconcile of a machine that is gone is queued again at once, for ever: 400 log lines/s until a restart. */
  readonly loopsWhenGone: boolean;
  /** The same through the retry timer of a machine deleted in its back-off. Read in source, not seen to happen. */
  readonly loopsAfterBackOff: boolean;
  /** A guest that has exited is booted again on its dirty disk by the next resync, and CREATED all the time. */
  readonly rebootsExitedGuests: boolean;
  /** After a restart of containerd no event arrives: nothing moves until flintlockd is restarted. */
  readonly deafAfterContainerdRestart: boolean;
  /** Every n-th List that comes while a machine is being deleted fails; 0: none. Seen: 2 of about 40. */
  readonly listFailsWhileDeleting: number;
}

const asMeasured: Misbehaviour = {
  crashesWithoutKernel: true,
  slashPoisonsList: true,
  emptyOverridesPanic: true,
  deadButCreated: true,
  losesDeletes: true,
  loopsWhenGone: true,
  loopsAfterBackOff: false,
  rebootsExitedGuests: true,
  deafAfterContainerdRestart: true,
  listFailsWhileDeleting: 20,
};

/** Also what is rare or was only read in source, each time. */
export const atItsWorst: Misbehaviour = { ...asMeasured, loopsAfterBackOff: true, listFailsWhileDeleting: 1 };

/** In milliseconds of the real one, before the scale. */
interface Times {
  /** From the process's start to its first answer: about 2 s. */
  readonly startMs: number;
  /** CreateMicroVM's answer takes 0.2-0.5 s, the others 0.02-0.2 s. */
  readonly answerMs: number;
  /** One image that is not local yet, a small one: 10-15 s. 102 s were seen for 95 MB. */
  readonly pullMs: number;
  /** All images local: 3-5 s to CREATED. */
  readonly createMs: number;
  /** A running machine: 1.0-1.6 s to “not found”. */
  readonly deleteMs: number;
  /** Retry n comes n times this later. */
  readonly backOffStepMs: number;
  /** `--resync-period`. */
  readonly resyncPeriodMs: number;
  /** A look at a machine that needs nothing. Not measured: chosen so that a start's resync of 5 machines lasts 3 s, as seen. */
  readonly lookMs: number;
}

const measuredTimes: Times = {
  startMs: 2_000,
  answerMs: 100,
  pullMs: 12_000,
  createMs: 4_000,
  deleteMs: 1_300,
  backOffStepMs: 20_000,
  resyncPeriodMs: 600_000,
  lookMs: 600,
};

/** The options with every default filled in and the times scaled. */
export interface Settings extends Required<Omit<StandInOptions, "token" | "restartAfterCrashMs" | "onBoot">> {
  readonly times: Times;
  readonly misbehaviour: Misbehaviour;
  readonly token: string | undefined;
  readonly restartAfterCrashMs: number | undefined;
  readonly onBoot: StandInOptions["onBoot"] | undefined;
}

export function settle(options: StandInOptions): Settings {
  const scale = options.scale ?? 0.01;
  const times = { ...measuredTimes, ...options.times };
  return {
    security: options.security ?? "plaintext",
    token: options.token,
    misbehaviour: { ...asMeasured, ...options.misbehaviour },
    times: Object.fromEntries(Object.entries(times).map(([name, ms]) => [name, ms * scale])) as never,
    scale,
    maximumRetry: options.maximumRetry ?? 10,
    restartAfterCrashMs: options.restartAfterCrashMs,
    localImages: options.localImages ?? [],
    registryHas: options.registryHas ?? (() => true),
    onBoot: options.onBoot,
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
  };
}
