/** What an access token must be allowed for jobs by tag. Facts: docs/gitlab.md. */
import { HOUR_MS } from "../base/units.ts";

/** The narrowest scope for each thing that is done with the token; `api` covers them all. */
export const neededScopes = {
  read_api: "to find waiting jobs",
  create_runner: "to make runners",
  manage_runner: "to delete runners",
} as const;

/** GitLab's access levels for making runners, and hooks. */
export const neededRoles = {
  project: { level: 40, role: "Maintainer" },
  group: { level: 50, role: "Owner" },
} as const;

/** An end that is nearer is worth a word: time enough to come back from holidays. */
export const TOKEN_ENDS_SOON_MS = 14 * 24 * HOUR_MS;
