/**
 * What the daemon and the command line say to each other of webhooks and of the runners that are made for tags. As in api.ts:
 * unknown fields are dropped when read, times are epoch ms.
 */
import { z } from "zod";

const at = z.number().nullable();
const counts = z.record(z.string(), z.number());

/** One GitLab runner that FireRunner has made for a set of tags, or for one job. */
export const RunnerView = z.object({
  key: z.string(),
  /** Null until GitLab has answered. */
  gitlabId: z.number().nullable(),
  state: z.string(),
  pool: z.string(),
  tags: z.array(z.string()),
  jobId: z.number().nullable(),
  size: z.object({ cpus: z.number(), memoryMib: z.number(), diskMib: z.number() }),
  createdAt: z.number(),
  activeAt: at,
  usedAt: z.number(),
  verifiedAt: at,
  /** Null for a token without an end. */
  tokenExpiresAt: at,
  /** Jobs claimed through it that have not ended. */
  unfinishedJobs: z.number(),
  /** Why it is to be deleted. */
  reason: z.string().nullable(),
});
export type RunnerView = z.infer<typeof RunnerView>;

export const RunnerList = z.object({ runners: z.array(RunnerView) });
export const OneRunner = z.object({ runner: RunnerView });

/** GitLab's limits: 50 tags of 255 characters. */
export const RunnerRequest = z.strictObject({
  tags: z
    .array(z.string().regex(/\S/, "a tag has letters").trim().min(1).max(255))
    .min(1)
    .max(50)
    .transform((tags) => [...new Set(tags)]),
});

/** One authentic webhook request. */
export const DeliveryView = z.object({
  key: z.string(),
  event: z.string(),
  projectId: z.number().nullable(),
  jobId: z.number().nullable(),
  status: z.string().nullable(),
  receivedAt: z.number(),
});
export type DeliveryView = z.infer<typeof DeliveryView>;

export const DeliveryList = z.object({ deliveries: z.array(DeliveryView) });

/** A job that waits in GitLab for a machine of ours. */
export const WaitingView = z.object({
  id: z.number(),
  projectId: z.number(),
  project: z.string(),
  name: z.string(),
  /** The pool that will serve it. */
  pool: z.string(),
  tags: z.array(z.string()),
  createdAt: z.number(),
  webUrl: z.string(),
  /** Why it has no runner yet, in words; null when nothing is in the way. */
  problem: z.string().nullable(),
});
export type WaitingView = z.infer<typeof WaitingView>;

/** A job that waits in GitLab and asks for a machine that cannot be had. */
const UnservableView = WaitingView.omit({ pool: true, problem: true }).extend({ reason: z.string() });

/** A hook of GitLab's that leads to us. */
const HookView = z.object({
  id: z.number(),
  url: z.string(),
  ok: z.boolean(),
  /** How it is, in words: `works`, `switched off by GitLab until …`, `does not send job events`. */
  words: z.string(),
});

/** What the running program says of hooks, projects and the API token, beyond what the store holds. */
export const WebhookStatusView = z.object({
  /** `group example/apps`, `project example/app`, `the whole GitLab`. */
  scope: z.string(),
  /** The address that GitLab is told to call; null when the configuration has none. */
  url: z.string().nullable(),
  /** How many signing keys and plain tokens are accepted. */
  accepts: z.object({ signingKeys: z.number(), tokens: z.number() }),
  requests: z.object({
    /** From when on these are counted: the start of the program. */
    since: z.number(),
    /** Authentic ones by event, those that came twice included. */
    taken: counts,
    duplicates: z.number(),
    /** Authentic, and of no form that is known. */
    unreadable: z.number(),
    /** By reason, in words. */
    refused: counts,
  }),
  hooks: z.array(HookView),
  /** What is in the way of all of it, in words. */
  problems: z.array(z.string()),
  /** Jobs that were found by looking, where a webhook should have told of them; since the start of the program. */
  missedByHooks: z.number(),
  /** Jobs that wait now and ask for a machine that cannot be had. */
  leftAlone: z.number(),
  /** The oldest of them, each with the reason. */
  unservable: z.array(UnservableView),
  projectProblems: z.array(z.object({ project: z.string(), problem: z.string() })),
  /** What is left of the API's rate limit; null before the first answer, or when GitLab does not say. */
  budget: z.object({ limit: z.number(), remaining: z.number(), resetsAt: z.number() }).nullable(),
  /** What was found out about the API token; null while it has not been read. */
  token: z.object({ summary: z.string(), problems: z.array(z.string()) }).nullable(),
  /** The most runners that may exist. */
  mostRunners: z.number(),
});
export type WebhookStatusView = z.infer<typeof WebhookStatusView>;

/** `GET /v1/webhook`. */
export const WebhookStatus = WebhookStatusView.extend({
  /** Where the public server listens; empty when `http.listen` names nothing. */
  listeners: z.array(z.string()),
  /** The same, as the release before named it in what `--json` prints; to be left out with the next one. */
  doors: z.array(z.string()),
  lastDelivery: DeliveryView.nullable(),
  /** `due`: a hook told of news that has not been looked at. */
  projects: z.object({ known: z.number(), due: z.number() }),
  runners: z.object({ creating: z.number(), active: z.number(), retiring: z.number() }),
  waiting: z.array(WaitingView),
});
export type WebhookStatus = z.infer<typeof WebhookStatus>;

/** Looking at runners and webhooks: the daemon does it for the socket, and offline a command does it by itself. */
export interface WebhookViews {
  /** Oldest first; with `gone` those of the past too. */
  runners(filter?: { readonly gone?: boolean | undefined }): Promise<RunnerView[]>;
  /** Newest first. `since` is epoch ms. */
  deliveries(filter?: DeliveryFilter): Promise<DeliveryView[]>;
  projects(): Promise<WebhookStatus["projects"]>;
}

interface DeliveryFilter {
  readonly since?: number | undefined;
  readonly limit?: number | undefined;
}
