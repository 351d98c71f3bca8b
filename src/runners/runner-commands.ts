import { routeJob, type TagRules } from "../domain/routing.ts";
import type { ManagedRunner } from "../store/jobs-by-tag.ts";
import { RunnerError } from "./errors.ts";
import type { RunnerCreator } from "./runner-creator.ts";
import { createWithinLimit, type LimitDeps } from "./runner-creator.ts";
import type { RunnerIndex } from "./runner-index.ts";
import { activeRunners, idleRunners } from "./runner-index.ts";
import { tagsKey } from "./runner-pools.ts";

export interface RunnerCommands {
  /** Makes a runner for these tags ahead of any job; resolves when it is active. Throws what is in the way. */
  create(tags: readonly string[]): Promise<ManagedRunner>;
  /** Takes it out of use; it is deleted in GitLab when its jobs have ended. Throws when there is none with this key or GitLab id. */
  retire(keyOrId: string): Promise<ManagedRunner>;
  /** Takes every unused runner out of use and deletes what GitLab has of ours beyond that. Returns what was done. */
  prune(): Promise<readonly string[]>;
}

interface CommandDeps extends LimitDeps {
  readonly rules: () => TagRules;
  readonly index: RunnerIndex;
  readonly creator: RunnerCreator;
  /** Waits until nobody else changes runners. */
  readonly exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  readonly wake: () => void;
}

/** What people ask for. Errors are theirs to read, and nothing is tried again by itself. */
export function createRunnerCommands(deps: CommandDeps): RunnerCommands {
  const { store, index, creator, exclusively, wake } = deps;

  async function create(tags: readonly string[]): Promise<ManagedRunner> {
    const { config, rules } = deps;
    const routing = routeJob(tags, rules());
    if (routing.kind !== "route")
      throw noMachine(tags, routing.kind === "refused" ? routing.reason : undefined);
    if (config().perJob) {
      throw new RunnerError(
        "runner_per_job",
        "runners are made for single jobs here (webhook.runners.perJob)",
      );
    }
    await index.refresh();
    const [known] = activeRunners(index, tagsKey(routing.route.tags));
    return known ?? (await createWithinLimit(deps, routing.route, null));
  }

  async function retire(keyOrId: string): Promise<ManagedRunner> {
    await index.refresh();
    const isMeant = ({ key, gitlabId }: ManagedRunner) => key === keyOrId || String(gitlabId) === keyOrId;
    const found = index.rows().find(isMeant);
    if (!found) throw new RunnerError("runner_unknown", `there is no runner ${keyOrId} of this FireRunner`);
    await store.retireRunner(found.key, "somebody asked for it");
    await index.refresh();
    wake();
    return index.rows().find(isMeant) ?? found;
  }

  async function prune(): Promise<readonly string[]> {
    await index.refresh();
    const idle = idleRunners(index);
    for (const { key } of idle) await store.retireRunner(key, "pruned: no job asks for it");
    const strays = await creator.sweep();
    wake();
    return [
      `${idle.length} unused ${idle.length === 1 ? "runner is" : "runners are"} being deleted`,
      ...(strays > 0 ? [`${strays} of ours that nothing here knew were deleted in GitLab`] : []),
    ];
  }

  return {
    create: (tags) => exclusively(() => create(tags)),
    retire: (keyOrId) => exclusively(() => retire(keyOrId)),
    prune: () => exclusively(prune),
  };
}

function noMachine(tags: readonly string[], reason: string | undefined): RunnerError {
  const why = reason ?? "none of them names a machine";
  return new RunnerError("runner_tags", `no machine can be had for ${tags.join(", ")}: ${why}`);
}
