import type { Config } from "./load.ts";

/**
 * What is in force after a reload: `next`, with what waits for a restart as it was. So a room that reads the configuration anew
 * each time sees only what diff.ts calls live.
 */
export function mergeReloadable(running: Config, next: Config): Config {
  const { allow, trustedProxies, unprovenPerMinute, tls = running.http.tls } = next.http;
  return {
    ...next,
    state: running.state,
    gitlab: running.gitlab,
    vm: running.vm,
    relay: running.relay,
    http: { ...running.http, allow, trustedProxies, unprovenPerMinute, tls },
    webhook: webhookOf(running.webhook, next.webhook),
  };
}

function webhookOf(running: Config["webhook"], next: Config["webhook"]): Config["webhook"] {
  if (running === undefined || next === undefined) return running;
  const { group, project, instance, installation, url, projects, poll } = running;
  return { ...next, group, project, instance, installation, url, projects, poll };
}
