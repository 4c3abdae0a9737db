/** One episode after the other, judged by keys; what comes next is fetched ahead. */

import { useEffect, useRef, useState } from "preact/hooks";
import { address, get } from "../api.ts";
import { useAsked } from "../asking.ts";
import { recall, remember, useKnown } from "../context.tsx";
import { duration } from "../model/format.ts";
import { chunkAt, usable } from "../model/pictures.ts";
import { details, series, sessionKept, videos } from "../model/recording.ts";
import { Empty, Label, Loading, Trouble } from "../parts/common.tsx";
import { FlagsPanel, plain, useFlagKinds } from "../parts/flags.tsx";
import { type Episode, JudgePanel, judgeBy, useJudging } from "../parts/judging.tsx";
import { useKeys } from "../parts/keyboard.tsx";
import { Player, POINTS, playBy, useTransport } from "../parts/player.tsx";
import { contentOf } from "../player/camera.ts";
import { placeTo, replaceQuery } from "../router.ts";
import type {
  EpisodePage,
  FlagKind,
  LibraryEpisode,
  OutcomeReason,
  RobotView,
  SessionDetail,
} from "../types.ts";
import { Select, Text } from "./sessions.tsx";

const PAGE = 100;
// When so few are left in what is loaded, more are asked for.
const AHEAD = 20;
// Files of video that are fetched before they are looked at are not larger than this.
const AHEAD_BYTES = 32_000_000;
const OUTCOMES = ["unlabelled", "success", "failure", "discarded"] as const;
// In the address: without it, those that nobody has judged are shown.
const ANY = "any";
const FILTERS = ["outcome", "robot_id", "task", "tag", "operator", "reason", "flag"] as const;
const ORDERS = ["suspicion", "newest"] as const;

function keyOf(episode: Episode): string {
  return `${episode.session_id} ${episode.episode_index}`;
}

export function Review({ query }: { query: Record<string, string> }) {
  const filter: Record<string, string> = Object.fromEntries(FILTERS.map((name) => [name, query[name] ?? ""]));
  if (query["outcome"] === undefined) filter["outcome"] = "unlabelled";
  if (query["outcome"] === ANY) filter["outcome"] = "";
  filter["order"] = query["order"] || ORDERS[0];
  return <Queue key={JSON.stringify(filter)} filter={filter} />;
}

function Queue({ filter }: { filter: Record<string, string> }) {
  const { say, may } = useKnown();
  const [queue, setQueue] = useState<LibraryEpisode[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  const [at, setAt] = useState(0);
  const [auto, setAuto] = useState(recall("go-on") !== "no");
  const done = useRef<string[]>([]);
  const first = useAsked<EpisodePage>(
    (signal) => get(address("episodes", { ...filter, limit: PAGE }), signal),
    [],
  );
  const reasons = useAsked<OutcomeReason[]>((signal) => get("outcome-reasons", signal), []);
  const kinds = useFlagKinds();
  const robots = useAsked<RobotView[]>((signal) => get("robots", signal), []);
  useEffect(() => {
    if (first.value) {
      setQueue(first.value.episodes);
      setCursor(first.value.next_cursor);
    }
  }, [first.value]);
  const asking = useRef(false);
  useEffect(() => {
    if (cursor === null || at < queue.length - AHEAD || asking.current) return;
    asking.current = true;
    get<EpisodePage>(address("episodes", { ...filter, limit: PAGE, cursor }))
      .then((page) => {
        setQueue((before) => [...before, ...page.episodes]);
        setCursor(page.next_cursor);
      })
      .catch(() => undefined)
      .finally(() => {
        asking.current = false;
      });
  }, [cursor, at, queue.length, filter]);

  const episode = queue[at] ?? null;
  const session = useAsked<SessionDetail | null>(
    () => (episode ? sessionKept(episode.session_id) : Promise.resolve(null)),
    [episode?.session_id],
  );
  const follower = queue[at + 1];
  useEffect(() => {
    if (episode && follower) void ahead(follower).catch(() => undefined);
  }, [episode, follower]);

  const judging = useJudging({
    episode,
    reasons: reasons.value ?? [],
    onChanged: (changed) => {
      const key = keyOf(changed);
      setQueue((before) => before.map((each) => (keyOf(each) === key ? { ...each, ...changed } : each)));
      if (!done.current.includes(key)) done.current.push(key);
    },
    onDone: () => {
      if (auto) setAt((before) => Math.min(before + 1, queue.length - 1));
    },
    // Whoever has gone on takes back what they have said of the episode before.
    undone: () => {
      const key = done.current.pop();
      const place = queue.findIndex((each) => keyOf(each) === key);
      if (place >= 0) setAt(place);
      return queue[place] ?? null;
    },
  });
  const change = (name: string, value: string) => {
    const wanted = { ...filter, [name]: value };
    replaceQuery({ ...wanted, outcome: wanted["outcome"] || ANY });
  };
  if (first.problem && !first.value) return <Trouble problem={first.problem} again={first.again} />;
  if (!first.value) return <Loading />;
  return (
    <>
      <h1 class="hidden">{say("review")}</h1>
      <form class="filters" onSubmit={(event) => event.preventDefault()}>
        <Select
          required
          label={say("order")}
          value={filter["order"]!}
          options={ORDERS.map((each) => [each, say(each)])}
          onChange={(value) => change("order", value)}
        />
        <Select
          label={say("flag")}
          value={filter["flag"]!}
          options={kinds.map(({ name }) => [name, plain(name)])}
          onChange={(value) => change("flag", value)}
        />
        <Select
          label={say("outcome")}
          value={filter["outcome"]!}
          options={OUTCOMES.map((each) => [each, say(each)])}
          onChange={(value) => change("outcome", value)}
        />
        <Select
          label={say("robot")}
          value={filter["robot_id"]!}
          options={(robots.value ?? []).map((robot) => [robot.robot_id, robot.robot_id])}
          onChange={(value) => change("robot_id", value)}
        />
        <Text label={say("filterTask")} value={filter["task"]!} onChange={(value) => change("task", value)} />
        <Text label={say("filterTag")} value={filter["tag"]!} onChange={(value) => change("tag", value)} />
        <label class="check">
          <input
            type="checkbox"
            checked={auto}
            onChange={() => {
              remember("go-on", auto ? "no" : "yes");
              setAuto(!auto);
            }}
          />
          <span>{say("autoNext")}</span>
        </label>
      </form>
      {episode === null ? (
        <NothingLeft filter={filter} />
      ) : session.value && session.value.id === episode.session_id ? (
        <OneEpisode
          key={session.value.id}
          {...{
            session: session.value,
            episode,
            judging,
            kinds,
            queue,
            at,
            onAt: setAt,
            more: cursor !== null,
          }}
        />
      ) : session.problem ? (
        <Trouble problem={session.problem} again={session.again} />
      ) : (
        <Loading />
      )}
      {!may("operate") && <p class="hidden">{say("needsOperator")}</p>}
    </>
  );
}

function NothingLeft({ filter }: { filter: Record<string, string> }) {
  const { say } = useKnown();
  const others = FILTERS.some((name) => name !== "outcome" && filter[name]);
  if (filter["outcome"] === "unlabelled" && !others) {
    return (
      <Empty title={say("allJudged")} hint={say("allJudgedHint")}>
        <a class="button" href={placeTo(["exports"])}>
          {say("exports")}
        </a>
      </Empty>
    );
  }
  return (
    <Empty title={say("noMatchEpisodes")}>
      <button type="button" onClick={() => replaceQuery({})}>
        {say("clearFilters")}
      </button>
    </Empty>
  );
}

interface OneProps {
  session: SessionDetail;
  episode: LibraryEpisode;
  judging: ReturnType<typeof useJudging>;
  kinds: FlagKind[];
  queue: LibraryEpisode[];
  at: number;
  onAt: (at: number) => void;
  more: boolean;
}

function OneEpisode({ session, episode, judging, kinds, queue, at, onAt, more }: OneProps) {
  const { say } = useKnown();
  const [zoomed, setZoomed] = useState<{ of: string; range: [number, number] | null } | null>(null);
  const zoom = zoomed?.of === keyOf(episode) ? zoomed.range : null;
  const setZoom = (range: [number, number] | null) => setZoomed({ of: keyOf(episode), range });
  const [first, end] = [
    episode.start_frame,
    Math.max(episode.end_frame ?? session.frames, episode.start_frame + 1),
  ];
  const transport = useTransport(session.fps, first, end, keyOf(episode));
  const go = (by: number) => onAt(Math.min(Math.max(at + by, 0), queue.length - 1));
  useKeys((action) => {
    if (action === "enter") {
      if (judging.asking) judging.skipReason();
      else go(1);
      return true;
    }
    if (action === "previous" || action === "next") {
      go(action === "next" ? 1 : -1);
      return true;
    }
    return playBy(action, transport) || judgeBy(action, judging);
  });
  return (
    <div class="with-side">
      <div>
        <header class="page">
          <h2>
            <a href={placeTo(["sessions", session.id], { episode: episode.episode_index })}>
              {say("session", { id: session.id })}
            </a>
            {" · "}
            {say("episode", { n: episode.episode_index })}
          </h2>
          <p class="facts">
            <span>{session.robot_id}</span>
            <span>{duration((end - first) / session.fps)}</span>
            <span>{say("episodeFrames", { first, last: end - 1 })}</span>
          </p>
        </header>
        <Player
          {...{ session, transport, first, end, zoom, onZoom: setZoom, gaps: [] }}
          chosen={episode.episode_index}
        />
      </div>
      <aside>
        <JudgePanel episode={episode} judging={judging} />
        <FlagsPanel
          sessionId={episode.session_id}
          episodeIndex={episode.episode_index}
          kinds={kinds}
          onFrame={(frame) => {
            transport.pause();
            transport.seek(frame);
          }}
        />
        <section class="queue" aria-label={say("queue")}>
          <header>
            <h2>{say("queue")}</h2>
            <small class="quiet">
              {say(more ? "queueMany" : "queueOf", { at: at + 1, all: queue.length })}
            </small>
          </header>
          <div class="steps">
            <button type="button" disabled={at === 0} onClick={() => go(-1)}>
              <kbd>↑</kbd> {say("previous")}
            </button>
            <button type="button" disabled={at >= queue.length - 1} onClick={() => go(1)}>
              <kbd>↓</kbd> {say("next")}
            </button>
          </div>
          <QueueList {...{ queue, at, onAt }} />
        </section>
      </aside>
    </div>
  );
}

// Of a long queue, so many before and after the present one are shown.
const AROUND = 30;

function QueueList({ queue, at, onAt }: { queue: LibraryEpisode[]; at: number; onAt: (at: number) => void }) {
  const { say } = useKnown();
  const list = useRef<HTMLUListElement>(null);
  const begin = Math.max(0, at - AROUND);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another one is shown
  useEffect(() => {
    list.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }, [at]);
  return (
    <ul ref={list}>
      {queue.slice(begin, at + AROUND).map((each, place) => (
        <li key={keyOf(each)}>
          <button
            type="button"
            aria-current={begin + place === at ? "true" : undefined}
            onClick={() => onAt(begin + place)}
          >
            <span>
              {each.session_id}·<b>{each.episode_index}</b>
            </span>
            <span class="quiet">{each.task ?? say("noTask")}</span>
            {each.flags.length > 0 && (
              <span class="tag" title={each.flags.map(plain).join(", ")}>
                {each.flags.length}
              </span>
            )}
            <Label outcome={each.outcome} />
          </button>
        </li>
      ))}
    </ul>
  );
}

/** Fetch what is needed to look at an episode. */
async function ahead(episode: LibraryEpisode): Promise<void> {
  const end = episode.end_frame;
  if (end === null) return;
  const [film] = await Promise.all([
    videos(episode.session_id),
    sessionKept(episode.session_id),
    series(episode.session_id, episode.start_frame, end, POINTS),
  ]);
  for (const camera of film.coverage) {
    const chunks = usable(film.videos, camera.camera_key);
    const chunk = chunks[Math.max(0, chunkAt(chunks, episode.start_frame))];
    if (!chunk) continue;
    await details(chunk.id);
    if (chunk.size_bytes > AHEAD_BYTES) continue;
    // The browser keeps it, and asks only whether it is still right.
    await (await fetch(contentOf(chunk))).arrayBuffer();
  }
}
