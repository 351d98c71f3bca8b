/**
 * What a guest on another host tells of its end, since its host may not. `orderly`: it is about to power off. `restarted`: it had
 * ended, and its host has started it again on its used disk.
 */
export type GuestEnd = "orderly" | "restarted";
