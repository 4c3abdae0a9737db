/** The page: where one can go, who one is, and the view of the address. */

import { useEffect, useState } from "preact/hooks";
import { get, send } from "./api.ts";
import { type Asked, problemIn, useAsked } from "./asking.ts";
import { Provide, type Theme, useKnown } from "./context.tsx";
import { Empty, Loading, Notes, SignInNeeded, Trouble, tell } from "./parts/common.tsx";
import { KeyList, useKeys } from "./parts/keyboard.tsx";
import { type Place, placeTo, usePlace } from "./router.ts";
import type { Caller } from "./types.ts";
import { Exports } from "./views/exports.tsx";
import { Review } from "./views/review.tsx";
import { SessionView } from "./views/session.tsx";
import { Sessions } from "./views/sessions.tsx";
import type { Language } from "./words/index.ts";

const AGAIN_MS = 60_000;
const VIEWS = ["sessions", "review", "exports"] as const;

export function App() {
  // Who one is may change: a session ends, or its role is another one.
  const me = useAsked<Caller>((signal) => get("me", signal), [], AGAIN_MS);
  return (
    <Provide me={me.problem?.status === 401 ? null : me.value}>
      <Page me={me} />
    </Provide>
  );
}

function Page({ me }: { me: Asked<Caller> }) {
  const { say } = useKnown();
  const place = usePlace();
  const [keys, setKeys] = useState(false);
  useKeys((action) => {
    if (action !== "help") return false;
    setKeys(true);
    return true;
  });
  const [first = "sessions", second] = place.path;
  useEffect(() => {
    const view = VIEWS.find((each) => each === first) ?? "sessions";
    document.title = `${second ? say("session", { id: second }) : say(view)} – ${say("title")}`;
  }, [first, second, say]);
  const skip = (event: Event) => {
    event.preventDefault();
    document.getElementById("main")?.focus();
  };
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        {say("skip")}
      </a>
      <header class="top">
        <a class="brand" href="#/">
          <Brand /> <span>{say("title")}</span>
        </a>
        <nav aria-label={say("title")}>
          {VIEWS.map((each) => (
            <NavLink key={each} to={each} here={first} text={say(each)} />
          ))}
        </nav>
        <button type="button" class="plain keys-button" title={say("helpHint")} onClick={() => setKeys(true)}>
          {say("help")} <kbd>?</kbd>
        </button>
        <Settings me={me} />
      </header>
      <main id="main" tabIndex={-1}>
        <View me={me} place={place} />
      </main>
      <Notes />
      {keys && <KeyList onClose={() => setKeys(false)} />}
    </>
  );
}

function View({ me, place }: { me: Asked<Caller>; place: Place }) {
  const { say } = useKnown();
  if (me.problem?.status === 401) return <SignInNeeded />;
  if (!me.value) return me.problem ? <Trouble problem={me.problem} again={me.again} /> : <Loading />;
  const [first = "sessions", second] = place.path;
  if (first === "sessions" && second === undefined) return <Sessions query={place.query} />;
  if (first === "sessions" && /^[1-9][0-9]*$/.test(second!)) {
    return <SessionView key={second} id={Number(second)} query={place.query} />;
  }
  if (first === "review" && second === undefined) return <Review query={place.query} />;
  if (first === "exports" && second === undefined) return <Exports query={place.query} />;
  return (
    <Empty title={say("notFound")}>
      <a class="button" href={placeTo(["sessions"])}>
        {say("toSessions")}
      </a>
    </Empty>
  );
}

function NavLink({ to, here, text }: { to: string; here: string; text: string }) {
  return (
    <a href={placeTo([to])} aria-current={here === to ? "page" : undefined}>
      {text}
    </a>
  );
}

function Brand() {
  return (
    <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
      <rect width="32" height="32" rx="7" fill="#14532d" />
      <path
        d="M8 24V14l8-6 7 5-5 5"
        fill="none"
        stroke="#bbf7d0"
        stroke-width="3"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
      <circle cx="8" cy="24" r="2.6" fill="#fbbf24" />
      <circle cx="16" cy="8" r="2.6" fill="#fbbf24" />
    </svg>
  );
}

const THEMES: [Theme, "themeAuto" | "themeLight" | "themeDark"][] = [
  ["auto", "themeAuto"],
  ["light", "themeLight"],
  ["dark", "themeDark"],
];

function Settings({ me }: { me: Asked<Caller> }) {
  const { say, language, setLanguage, theme, setTheme } = useKnown();
  const caller = me.problem?.status === 401 ? null : me.value;
  const signOut = async () => {
    try {
      await send("POST", "sign-out");
      location.reload();
    } catch (error) {
      tell(problemIn(error).detail, true);
    }
  };
  return (
    <>
      <button type="button" class="plain who" popovertarget="settings" title={say("menu")}>
        {caller ? whoOf(caller, say) : say("menu")} ▾
      </button>
      <div id="settings" popover="auto" class="menu">
        <fieldset>
          <legend>{say("theme")}</legend>
          {THEMES.map(([each, word]) => (
            <label key={each}>
              <input type="radio" name="theme" checked={theme === each} onChange={() => setTheme(each)} />
              {say(word)}
            </label>
          ))}
        </fieldset>
        <fieldset>
          <legend>{say("language")}</legend>
          {(["en", "ko"] as Language[]).map((each) => (
            <label key={each} lang={each}>
              <input
                type="radio"
                name="language"
                checked={language === each}
                onChange={() => setLanguage(each)}
              />
              {each === "en" ? "English" : "한국어"}
            </label>
          ))}
        </fieldset>
        <p>
          <a href="docs">{say("api")}</a>
        </p>
        {caller?.how === "session" ? (
          <button type="button" onClick={signOut}>
            {say("signOut")}
          </button>
        ) : (
          <a class="button" href="sign-in">
            {say("signIn")}
          </a>
        )}
      </div>
    </>
  );
}

function whoOf(caller: Caller, say: ReturnType<typeof useKnown>["say"]): string {
  if (caller.how === "this machine") return say("thisMachine", { role: caller.role });
  if (caller.how === "network") return say("theNetwork", { role: caller.role });
  return say("signedInAs", { name: caller.name, role: caller.role });
}
