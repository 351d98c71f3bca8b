/** Each may do what those before it may. */
export const roles = ["viewer", "operator", "admin"] as const;
export type Role = (typeof roles)[number];

/** Who asks something of the running program. */
export interface Caller {
  /** The name of a token, or whoever may open the control socket. */
  readonly name: string;
  readonly role: Role;
}

export function isAllowed({ role }: Caller, needed: Role): boolean {
  return roles.indexOf(role) >= roles.indexOf(needed);
}
