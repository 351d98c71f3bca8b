import { type Content, createContent } from "./content.ts";
import type { Settings } from "./options.ts";
import { createProcesses, type Processes } from "./processes.ts";

/** What stays when the daemon goes: containerd's content and images, and the machines' processes. */
export interface Host {
  readonly settings: Settings;
  readonly content: Content;
  readonly processes: Processes;
  readonly images: Set<string>;
}

export function createHost(settings: Settings): Host {
  return {
    settings,
    content: createContent(),
    processes: createProcesses(settings.onBoot),
    images: new Set(settings.localImages),
  };
}
