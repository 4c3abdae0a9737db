/** One session: pictures, joints, episodes and the account, on one axis of frames. */

import { useCallback, useEffect, useState } from "preact/hooks";
import { get } from "../api.ts";
import { useAsked } from "../asking.ts";
import { useKnown } from "../context.tsx";
import { decimal, duration, time, whole } from "../model/format.ts";
import { session as fetchSession } from "../model/recording.ts";
import { Empty, Label, Loading, Trouble } from "../parts/common.tsx";
import { FlagsPanel, useFlagKinds } from "../parts/flags.tsx";
import { type Episode, JudgePanel, judgeBy, useJudging } from "../parts/judging.tsx";
import { useKeys } from "../parts/keyboard.tsx";
import { LedgerPanel } from "../parts/ledger.tsx";
import { Player, playBy, useTransport } from "../parts/player.tsx";
import type { EpisodeView, Ledger, OutcomeReason, SessionDetail } from "../types.ts";

const LIVE_EVERY_MS = 2000;

export function SessionView({ id, query }: { id: number; query: Record<string, string> }) {
  const { say } = useKnown();
  const [live, setLive] = useState(true);
  const found = useAsked<SessionDetail>(
    (signal) => fetchSession(id, signal),
    [id],
    live ? LIVE_EVERY_MS : null,
  );
  const ledger = useAsked<Ledger>(
    (signal) => get(`sessions/${id}/ledger`, signal),
    [id],
    live ? LIVE_EVERY_MS : null,
  );
  const recording = found.value?.status === "recording";
  useEffect(() => {
    if (found.value) setLive(recording);
  }, [found.value, recording]);
  if (found.problem && !found.value) return <Trouble problem={found.problem} again={found.again} />;
  if (!found.value) return <Loading />;
  if (found.value.frames === 0) return <Empty title={say("noJoints")} />;
  return (
    <OneSession
      key={id}
      found={found.value}
      ledger={ledger.value}
      startAt={Number(query["frame"] ?? 0) || 0}
      startWith={query["episode"] === undefined ? null : Number(query["episode"])}
    />
  );
}

interface OneProps {
  found: SessionDetail;
  ledger: Ledger | null;
  startAt: number;
  startWith: number | null;
}

function OneSession({ found, ledger, startAt, startWith }: OneProps) {
  const { say } = useKnown();
  const [changes, setChanges] = useState<ReadonlyMap<number, EpisodeView>>(new Map());
  const [zoom, setZoom] = useState<[number, number] | null>(null);
  const [chosen, setChosen] = useState<number | null>(startWith);
  const reasons = useAsked<OutcomeReason[]>((signal) => get("outcome-reasons", signal), []);
  const kinds = useFlagKinds();
  const show = (frame: number) => {
    transport.pause();
    setZoom(null);
    transport.seek(frame);
  };
  const episodes = found.episode_list.map((each) => {
    const changed = changes.get(each.episode_index);
    return changed && changed.revision >= each.revision ? { ...each, ...changed } : each;
  });
  const session = { ...found, episode_list: episodes };
  const transport = useTransport(session.fps, 0, session.frames, String(session.id), startAt);
  const episode = episodes.find((each) => each.episode_index === chosen) ?? null;
  const current: Episode | null = episode && { ...episode, session_id: session.id };

  const choose = useCallback(
    (wanted: EpisodeView | null) => {
      setChosen(wanted?.episode_index ?? null);
      if (wanted) {
        transport.pause();
        transport.seek(wanted.start_frame);
      }
      setZoom(wanted ? [wanted.start_frame, wanted.end_frame ?? session.frames] : null);
    },
    [transport, session.frames],
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: only where the address has named one
  useEffect(() => {
    if (episode && startAt === 0) choose(episode);
  }, []);
  const judging = useJudging({
    episode: current,
    reasons: reasons.value ?? [],
    onChanged: (changed) => setChanges((before) => new Map(before).set(changed.episode_index, changed)),
    onDone: () => undefined,
  });
  useKeys((action) => {
    if (action === "enter") {
      if (!judging.asking) return false;
      judging.skipReason();
      return true;
    }
    if (action === "previous" || action === "next") {
      const at = episodes.findIndex((each) => each.episode_index === chosen);
      const wanted = episodes[action === "next" ? at + 1 : Math.max(0, at - 1)];
      if (wanted) choose(wanted);
      return episodes.length > 0;
    }
    return playBy(action, transport) || (current !== null && judgeBy(action, judging));
  });
  const done = episodes.filter((each) => each.outcome !== null).length;
  return (
    <div class="with-side">
      <div>
        <header class="page">
          <h1>
            {say("session", { id: session.id })} <small>{session.task ?? say("noTask")}</small>
          </h1>
          <Facts session={session} />
        </header>
        <Player
          session={session}
          transport={transport}
          first={0}
          end={session.frames}
          chosen={chosen}
          gaps={ledger?.gaps ?? []}
          zoom={zoom}
          onZoom={setZoom}
        />
      </div>
      <aside>
        <section class="episodes" aria-label={say("episodes")}>
          <header>
            <h2>{say("episodes")}</h2>
            {episodes.length > 0 && (
              <small class="quiet">{say("labelledOf", { done, all: episodes.length })}</small>
            )}
          </header>
          {episodes.length === 0 ? (
            <p class="quiet">{say("emptyEpisodesHint")}</p>
          ) : (
            <ul>
              <li>
                <button type="button" aria-pressed={chosen === null} onClick={() => choose(null)}>
                  {say("wholeSession")}
                </button>
              </li>
              {episodes.map((each) => (
                <li key={each.episode_index}>
                  <button
                    type="button"
                    aria-pressed={each.episode_index === chosen}
                    onClick={() => choose(each)}
                  >
                    <b>{each.episode_index}</b>
                    <span class="quiet">
                      {duration(((each.end_frame ?? session.frames) - each.start_frame) / session.fps)}
                    </span>
                    <Label outcome={each.outcome} />
                  </button>
                </li>
              ))}
            </ul>
          )}
        </section>
        {current && <JudgePanel episode={current} judging={judging} />}
        {current && (
          <FlagsPanel
            sessionId={current.session_id}
            episodeIndex={current.episode_index}
            {...{ kinds, onFrame: show }}
          />
        )}
        {ledger && <LedgerPanel ledger={ledger} onFrame={show} />}
      </aside>
    </div>
  );
}

function Facts({ session }: { session: SessionDetail }) {
  const { say, language } = useKnown();
  return (
    <p class="facts">
      <span class={`status ${session.status}`}>{say(session.status)}</span>
      <span>{session.robot_id}</span>
      <span>{duration(session.frames / session.fps)}</span>
      <span>{say("nFrames", { n: whole(session.frames, language) })}</span>
      <span>{decimal(session.fps, language, 1)} Hz</span>
      <span>{time(session.start_time, language)}</span>
      {session.operator && (
        <span>
          {say("operator")}: {session.operator}
        </span>
      )}
      {session.tags.map((tag) => (
        <span key={tag} class="tag">
          {tag}
        </span>
      ))}
      {session.archive_damage && <span class="bad">{session.archive_damage}</span>}
      <a href={`sessions/${session.id}/frames`} download={`session-${session.id}.json`}>
        {say("downloadFrames")}
      </a>
    </p>
  );
}
