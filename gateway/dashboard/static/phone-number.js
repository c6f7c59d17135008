// Phone numbers as ITU-T E.164 has them, out of what people type. Whether a number exists, the provider says.

import { locales } from "./languages.js";

// Countries and their calling codes (ITU list of E.164 country codes). After a colon is how numbers go on where a code is
// shared; all others of it are those of the country without a colon.
const CODES = {};
const TABLE = `
AC247AD376AE971AF93AG1:268AI1:264AL355AM374AO244AR54AS1:684AT43AU61AW297AX358:18AZ994BA387BB1:246BD880BE32BF226
BG359BH973BI257BJ229BM1:441BN673BO591BQ599:3,4,7BR55BS1:242BT975BW267BY375BZ501
CA1:204,226,236,249,250,257,263,273,289,306,343,354,365,367,368,382,403,416,418,428,431,437,438,450,460,468,474,506,514,519,537,548,568,579,581,584,587,604,613,639,647,672,683,705,709,742,753,778,780,782,807,819,825,851,867,873,879,902,905,942
CC61:89162CD243CF236CG242CH41CI225CK682CL56CM237CN86CO57CR506CU53CV238CW599CX61:89164CY357CZ420DE49DJ253DK45
DM1:767DO1:809,829,849DZ213EC593EE372EG20EH212:528ER291ES34ET251FI358FJ679FK500FM691FO298FR33GA241GB44GD1:473
GE995GF594GG44:1481GH233GI350GL299GM220GN224GP590GQ240GR30GT502GU1:671GW245GY592HK852HN504HR385HT509HU36ID62
IE353IL972IM44:1624IN91IO246IQ964IR98IS354IT39JE44:1534JM1:658,876JO962JP81KE254KG996KH855KI686KM269KN1:869KP850
KR82KW965KY1:345KZ7:6,7LA856LB961LC1:758LI423LK94LR231LS266LT370LU352LV371LY218MA212MC377MD373ME382MG261MH692
MK389ML223MM95MN976MO853MP1:670MQ596MR222MS1:664MT356MU230MV960MW265MX52MY60MZ258NA264NC687NE227NF672NG234NI505
NL31NO47NP977NR674NU683NZ64OM968PA507PE51PF689PG675PH63PK92PL48PM508PR1:787,939PS970PT351PW680PY595QA974RE262
RO40RS381RU7RW250SA966SB677SC248SD249SE46SG65SH290SI386SJ47:79SK421SL232SM378SN221SO252SR597SS211ST239SV503
SX1:721SY963SZ268TA290:8TC1:649TD235TG228TH66TJ992TK690TL670TM993TN216TO676TR90TT1:868TV688TW886TZ255UA380UG256
US1UY598UZ998VA39:06698VC1:784VE58VG1:284VI1:340VN84VU678WF681WS685XK383YE967YT262:269,639ZA27ZM260ZW263`;
for (const [, country, code, leads] of TABLE.matchAll(/([A-Z]{2})(\d+):?([\d,]*)/g)) CODES[country] = [code, ...leads.split(",").filter(Boolean)];

// What is dialled before a number inside a country. Elsewhere it is one 0.
const TRUNK = { 1: /^1(?=\d{10}$)/, 7: /^8(?=\d{10}$)/, 36: /^06/, 370: /^[08](?=\d{8}$)/, 375: /^80?/, 993: /^8/ };
// Where numbers themselves begin with 0.
const KEEPS_ZERO = new Set(["39", "225", "229", "241", "242", "378", "379"]);
// What is dialled for abroad beside 00.
const ABROAD = { 1: /^(011|00)/, 61: /^00(11)?/, 81: /^(010|00)/ };
// White space, what cannot be seen, quotes, and the marks that people set between digits. A (0) stays.
const MARKS = /\((?!0\))|(?<!\(0)\)|[\s"'.\/\-\u200b-\u202e\u2060]/g;

/** The country of a browser, by its first language: others come with every browser. Empty when it says none. */
export function homeCountry(languages) {
  const [first] = locales(languages);
  const region = first?.maximize().region;
  return region in CODES ? region : "";
}

/** The calling code of a country, e.g. 44. */
export const callingCode = (country) => CODES[country]?.[0] ?? "";

/** What was typed as E.164; a number without + is one of `country`. Empty for what is no number. */
export function toE164(text, country) {
  const own = callingCode(country);
  let typed = text.normalize("NFKC").trim().replace(/^(whatsapp:)+/i, "").replace(MARKS, "").replace(ABROAD[own] ?? /^00/, "+");
  // A trunk 0 that is shown beside the country's code, as in +44 (0)20.
  typed = typed.replace(/^\+(\d+)\(0\)/, (all, code) => (KEEPS_ZERO.has(code) ? all : `+${code}`)).replace(/[()]/g, "");
  if (/^\d+$/.test(typed) && own) typed = `+${own}${typed.replace(KEEPS_ZERO.has(own) ? "" : (TRUNK[own] ?? /^0/), "")}`;
  return /^\+[1-9]\d{1,14}$/.test(typed) ? typed : "";
}

/** The country of a number in E.164; empty when the number is of none, or of one of several. */
export function countryOf(number) {
  const digits = number.slice(1);
  let [best, longest] = ["", 0];
  for (const [country, [code, ...leads]] of Object.entries(CODES)) {
    for (const start of leads.length ? leads.map((lead) => code + lead) : [code]) {
      if (start.length > longest && digits.startsWith(start)) [best, longest] = [country, start.length];
    }
  }
  // Toll-free numbers and the like belong to all of North America.
  return best === "US" && /^1([5-9]00|5(22|33|44|66|77|88)|8(33|44|55|66|77|88))/.test(digits) ? "" : best;
}
