/** Each may do what those before it may. */
export type Role = "viewer" | "operator" | "admin";

/** Who asks something of the running program. */
export interface Caller {
  /** The name of a token, or whoever may open the control socket. */
  readonly name: string;
  readonly role: Role;
}
