/** What `top` knows, and what a key makes of it. Pure: what has to be asked or done is returned as a wish. */
import { filtered, type Row, type Snapshot, type Subject, type ViewName, viewNames } from "./rows.ts";

export interface TopState {
  readonly view: ViewName;
  /** Undefined until FireRunner has answered for the first time. */
  readonly snapshot: Snapshot | undefined;
  /** Why there is no newer one; undefined while FireRunner answers. */
  readonly problem: string | undefined;
  /** Of each view: which row is selected, and where it was. */
  readonly selected: Readonly<Record<ViewName, Selection>>;
  readonly filter: string;
  readonly isTyping: boolean;
  readonly panel: Panel | undefined;
  /** A question before something is done; only `y` does it. */
  readonly question: { readonly text: string; readonly wish: Wish } | undefined;
  /** What was done or refused last. */
  readonly message: string;
}

interface Selection {
  readonly key: string | undefined;
  readonly index: number;
}

/** A text in place of the list. */
export interface Panel {
  readonly kind: "details" | "log";
  readonly title: string;
  readonly subject: Subject;
  /** Undefined until it has been read. */
  readonly lines: readonly string[] | undefined;
  /** How far it is scrolled: details from their beginning, logs from their end. */
  readonly offset: number;
}

export type Wish =
  | { readonly kind: "quit" }
  /** The text of the panel. */
  | { readonly kind: "read" }
  | { readonly kind: "drain" | "resume"; readonly host: string | undefined };

/** A key as Node's readline names it. */
export interface Key {
  readonly name?: string | undefined;
  readonly sequence?: string | undefined;
  readonly ctrl?: boolean | undefined;
  readonly shift?: boolean | undefined;
}

export interface Pressed {
  readonly state: TopState;
  readonly wish?: Wish | undefined;
}

const first: Selection = { key: undefined, index: 0 };

export const atStart: TopState = {
  view: "jobs",
  snapshot: undefined,
  problem: undefined,
  selected: { jobs: first, machines: first, hosts: first, pools: first },
  filter: "",
  isTyping: false,
  panel: undefined,
  question: undefined,
  message: "",
};

const MOST_FILTER = 60;

/** The rows of the list as it is filtered. */
export function shownRows({ snapshot, view, filter }: TopState): readonly Row[] {
  return snapshot ? filtered(snapshot.rows[view], filter) : [];
}

/** Which of them is selected: the same one as before wherever it is now, else what stands in its place. Undefined without rows. */
export function selectedIndex(state: TopState, rows: readonly Row[] = shownRows(state)): number | undefined {
  if (rows.length === 0) return undefined;
  const { key, index } = state.selected[state.view];
  const at = rows.findIndex((row) => row.key === key);
  return at >= 0 ? at : Math.min(index, rows.length - 1);
}

/** `page`: how many rows of a list or lines of a text there is room for. */
export function press(state: TopState, key: Key, page: number): Pressed {
  if (key.ctrl && key.name === "c") return { state, wish: { kind: "quit" } };
  if (state.question) return answer(state, key);
  if (state.isTyping) return { state: type(state, key) };
  const fresh = { ...state, message: "" };
  return state.panel ? inPanel(fresh, state.panel, key, page) : inList(fresh, key, page);
}

function answer(state: TopState, { name }: Key): Pressed {
  const { question } = state;
  const asked = { ...state, question: undefined };
  return name === "y"
    ? { state: asked, wish: question?.wish }
    : { state: { ...asked, message: "Nothing was done." } };
}

function type(state: TopState, { name, sequence = "", ctrl }: Key): TopState {
  if (name === "return" || name === "enter") return { ...state, isTyping: false };
  if (name === "escape") return { ...state, isTyping: false, filter: "" };
  if (name === "backspace") return { ...state, filter: [...state.filter].slice(0, -1).join("") };
  const isLetter = !ctrl && [...sequence].length === 1 && /^[^\p{C}]$/u.test(sequence);
  return isLetter ? { ...state, filter: [...state.filter, sequence].slice(0, MOST_FILTER).join("") } : state;
}

function inPanel(state: TopState, panel: Panel, key: Key, page: number): Pressed {
  const { name = "", sequence } = key;
  if (name === "escape" || sequence === "q" || name === "return")
    return { state: { ...state, panel: undefined } };
  if (sequence === "l" && panel.kind === "details") return openPanel(state, "log", panel.subject);
  const by = steps(name, page);
  if (by === undefined) return { state };
  const down = panel.kind === "log" ? -by : by;
  const most = Math.max(0, (panel.lines?.length ?? 0) - page);
  const offset = Math.min(most, Math.max(0, panel.offset + down));
  return { state: { ...state, panel: { ...panel, offset } } };
}

/** How far a key goes down in a list or text; undefined for those that do not. */
function steps(name: string, page: number): number | undefined {
  const far = Number.MAX_SAFE_INTEGER;
  const known: Readonly<Record<string, number>> = {
    ...{ up: -1, k: -1, down: 1, j: 1, pageup: -page, pagedown: page, home: -far, end: far },
  };
  return Object.hasOwn(known, name) ? known[name] : undefined;
}

function inList(state: TopState, key: Key, page: number): Pressed {
  const { name = "", sequence = "" } = key;
  const by = steps(name, page);
  if (by !== undefined) return { state: move(state, by) };
  const view = name === "tab" ? nextView(state.view, key.shift ? -1 : 1) : viewNames[Number(sequence) - 1];
  if (view !== undefined) return { state: { ...state, view } };
  if (name === "return" || name === "enter") return openSelected(state, "details");
  const known: Readonly<Record<string, () => Pressed>> = {
    "\u001b": () => ({ state: { ...state, filter: "" } }),
    "/": () => ({ state: { ...state, isTyping: true } }),
    q: () => ({ state, wish: { kind: "quit" } }),
    d: () => ({ state: askToDrain(state) }),
    l: () => openSelected(state, "log"),
  };
  return (Object.hasOwn(known, sequence) ? known[sequence]?.() : undefined) ?? { state };
}

function openSelected(state: TopState, kind: Panel["kind"]): Pressed {
  const subject = selectedSubject(state);
  return subject ? openPanel(state, kind, subject) : { state };
}

function move(state: TopState, by: number): TopState {
  const rows = shownRows(state);
  const at = selectedIndex(state, rows);
  if (at === undefined) return state;
  const index = Math.min(rows.length - 1, Math.max(0, at + by));
  return { ...state, selected: { ...state.selected, [state.view]: { key: rows[index]?.key, index } } };
}

function nextView(view: ViewName, by: number): ViewName {
  const at = viewNames.indexOf(view) + by + viewNames.length;
  return viewNames[at % viewNames.length] ?? view;
}

function selectedSubject(state: TopState): Subject | undefined {
  const rows = shownRows(state);
  return rows[selectedIndex(state, rows) ?? -1]?.subject;
}

function openPanel(state: TopState, kind: Panel["kind"], subject: Subject): Pressed {
  if (kind === "log" && (subject.kind === "host" || subject.kind === "pool"))
    return { state: { ...state, message: "Jobs and machines have logs." } };
  const title = titleOf(kind, subject);
  return {
    state: { ...state, panel: { kind, title, subject, lines: undefined, offset: 0 } },
    wish: { kind: "read" },
  };
}

function titleOf(kind: Panel["kind"], subject: Subject): string {
  switch (subject.kind) {
    case "job":
      return kind === "log" ? `Log of job ${subject.jobId}` : `Job ${subject.jobId}`;
    case "machine":
      return kind === "log" ? `Console of ${subject.machine.id}` : `Machine ${subject.machine.id}`;
    case "host":
      return `Host ${subject.host.host}`;
    case "pool":
      return `Pool ${subject.pool.name}`;
  }
}

/** Where hosts are looked at, the one that is selected; elsewhere all of FireRunner. */
function askToDrain(state: TopState): TopState {
  const { snapshot, view } = state;
  if (!snapshot || state.problem !== undefined) return { ...state, message: "FireRunner does not answer." };
  const subject = view === "hosts" ? selectedSubject(state) : undefined;
  if (subject?.kind === "host") {
    const { host, drained, key } = subject.host;
    const text = drained ? `Start machines on ${host} again?` : `Start nothing new on ${host}?`;
    return { ...state, question: { text, wish: { kind: drained ? "resume" : "drain", host: key } } };
  }
  const isRunning = snapshot.status.mode === "run";
  const text = isRunning ? "Take no new jobs? Running ones go on." : "Take jobs again?";
  return { ...state, question: { text, wish: { kind: isRunning ? "drain" : "resume", host: undefined } } };
}
