/** The backend, as this page asks it. Addresses are relative: the page may be served below a prefix. */

/** What the backend says when it refuses (RFC 9457). */
export interface Problem {
  status: number;
  code: string;
  detail: string;
  hint?: string;
  field?: string;
  retryable?: boolean;
  [extra: string]: unknown;
}

/** A request that the backend has refused, or that did not reach it (`code` is then "unreachable"). */
export class Refused extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

type Query = Record<string, string | number | null | undefined>;

/** Path with the parameters that have a value. */
export function address(path: string, query: Query = {}): string {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") words.set(name, String(value));
  }
  const told = words.toString();
  return told ? `${path}?${told}` : path;
}

/** The answer; throws Refused. */
export async function ask(path: string, request: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...request });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refused({ status: 0, code: "unreachable", detail: "", retryable: true });
  }
  if (answer.ok) return answer;
  throw new Refused(await problemOf(answer));
}

async function problemOf(answer: Response): Promise<Problem> {
  const otherwise = {
    status: answer.status,
    code: "unknown",
    detail: `${answer.status} ${answer.statusText}`,
  };
  try {
    return { ...otherwise, ...((await answer.json()) as Partial<Problem>) };
  } catch {
    return otherwise;
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await ask(path, { headers: { Accept: "application/json" }, ...(signal && { signal }) });
  return (await answer.json()) as T;
}

export async function getText(path: string, accept: string, signal?: AbortSignal): Promise<string> {
  const answer = await ask(path, { headers: { Accept: accept }, ...(signal && { signal }) });
  return answer.text();
}

export async function send<T>(method: "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T> {
  const answer = await ask(path, {
    method,
    ...(body !== undefined && {
      body: JSON.stringify(body),
      headers: { "Content-Type": "application/json" },
    }),
  });
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}
