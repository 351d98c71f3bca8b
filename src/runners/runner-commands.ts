import { routeJob, type TagRules } from "../domain/routing.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import { RunnerError } from "./errors.ts";
import type { RunnerProvisioner } from "./ports.ts";
import type { RunnerCreator } from "./runner-creator.ts";
import type { RunnerIndex } from "./runner-index.ts";
import { type LimitParts, makeWithinLimit } from "./runner-limit.ts";
import { tagsKey } from "./runner-needs.ts";
import { activeRunners, idleRunners } from "./runner-selection.ts";

interface PeopleParts extends LimitParts {
  readonly rules: () => TagRules;
  readonly book: RunnerIndex;
  readonly making: RunnerCreator;
  /** Waits until nobody else changes runners. */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  readonly wake: () => void;
}

/** What people ask for. Errors are theirs to read, and nothing is tried again by itself. */
export function createRunnerCommands(
  parts: PeopleParts,
): Pick<RunnerProvisioner, "create" | "retire" | "prune"> {
  const { store, book, making, inTurn, wake } = parts;

  async function create(tags: readonly string[]): Promise<ManagedRunner> {
    const { config, rules } = parts;
    const routing = routeJob(tags, rules());
    if (routing.kind !== "route")
      throw noMachine(tags, routing.kind === "refused" ? routing.reason : undefined);
    if (config().perJob) {
      throw new RunnerError(
        "runner_per_job",
        "runners are made for single jobs here (webhook.runners.perJob)",
      );
    }
    await book.refresh();
    const [known] = activeRunners(book, tagsKey(routing.route.tags));
    return known ?? (await makeWithinLimit(parts, routing.route, null));
  }

  async function retire(keyOrId: string): Promise<ManagedRunner> {
    await book.refresh();
    const isMeant = ({ key, gitlabId }: ManagedRunner) => key === keyOrId || String(gitlabId) === keyOrId;
    const found = book.rows().find(isMeant);
    if (!found) throw new RunnerError("runner_unknown", `there is no runner ${keyOrId} of this FireRunner`);
    await store.retireRunner(found.key, "somebody asked for it");
    await book.refresh();
    wake();
    return book.rows().find(isMeant) ?? found;
  }

  async function prune(): Promise<readonly string[]> {
    await book.refresh();
    const idle = idleRunners(book);
    for (const { key } of idle) await store.retireRunner(key, "pruned: no job asks for it");
    const strays = await making.sweep();
    wake();
    return [
      `${idle.length} unused ${idle.length === 1 ? "runner is" : "runners are"} being deleted`,
      ...(strays > 0 ? [`${strays} of ours that nothing here knew were deleted in GitLab`] : []),
    ];
  }

  return {
    create: (tags) => inTurn(() => create(tags)),
    retire: (keyOrId) => inTurn(() => retire(keyOrId)),
    prune: () => inTurn(prune),
  };
}

function noMachine(tags: readonly string[], reason: string | undefined): RunnerError {
  const why = reason ?? "none of them names a machine";
  return new RunnerError("runner_tags", `no machine can be had for ${tags.join(", ")}: ${why}`);
}
