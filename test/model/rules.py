"""rules.py
What a night does to a roster, in plain Python: a reference to compare with.

It was written from the design (sections 3, 4 and 8), not from src/, and shares
neither code nor SQL with it.  Nothing here is fast or clever: a roster is
dictionaries, and a night looks at every record.  What a feed is stands in
world.py, how both are run and compared in check.py.
"""
import copy
import datetime
import fractions

TYPES = ("school", "term", "course", "section", "student", "staff", "contact",
         "student_contact", "enrollment")
PERSONS = ("student", "staff", "contact")
LINKS = ("student_contact", "enrollment")

# Columns beside source_id: t text, d date, b boolean, l list.
COLUMNS = {
    "school": "sis_id:t name:t school_number:t state_id:t nces_id:t low_grade:t"
              " high_grade:t phone:t address:t city:t state:t zip:t"
              " principal_name:t principal_email:t",
    "term": "sis_id:t name:t term_type:t start_date:d end_date:d"
            " parent_source_id:t school_year:t",
    "course": "sis_id:t name:t course_code:t school_source_id:t grades:l"
              " subjects:l",
    "section": "sis_id:t name:t section_code:t section_type:t"
               " course_source_id:t school_source_id:t term_source_ids:l"
               " grades:l subjects:l periods:l location:t",
    "student": "sis_id:t given_name:t middle_name:t family_name:t"
               " preferred_given_name:t preferred_family_name:t"
               " student_number:t state_id:t username:t email:t phone:t"
               " grade:t birth_date:d gender:t school_source_id:t"
               " school_source_ids:l enabled:b",
    "staff": "sis_id:t given_name:t middle_name:t family_name:t staff_number:t"
             " state_id:t username:t email:t phone:t title:t roles:l"
             " school_source_id:t school_source_ids:l enabled:b",
    "contact": "sis_id:t given_name:t family_name:t email:t phones:l"
               " username:t",
    "student_contact": "sis_id:t student_source_id:t contact_source_id:t"
                       " relationship:t contact_type:t",
    "enrollment": "sis_id:t section_source_id:t school_source_id:t"
                  " person_source_id:t role:t is_primary:b begin_date:d"
                  " end_date:d",
}
COLUMNS = {t: [tuple(c.split(":")) for c in text.split()]
           for t, text in COLUMNS.items()}
KIND = {t: dict(columns) for t, columns in COLUMNS.items()}

# How many rows of a type may always be rejected; how many in force make an
# empty type suspicious; from how many on new IDs are (issue 6).
REJECTS_ALLOWED = 5
EMPTY_TYPE = 5
REKEYED = 20

STAFF_ROLES = ("teacher", "administrator", "aide", "proctor", "counselor",
               "districtadministrator", "principal", "siteadministrator",
               "systemadministrator")
CONTACT_ROLES = ("parent", "guardian", "relative")

# What the ends of a link are tonight.
THERE, OUT, LEAVING = "there", "out of scope", "leaving"


class Row:
    """A stored record."""

    def __init__(self, values, run=None, managed=True):
        self.values = values
        self.managed = managed
        self.archived = None            # the reason
        self.content = None             # as last taken; None: edited by hand
        self.app_school = None
        self.created_run = self.updated_run = run
        self.restored_run = self.archived_run = None


class State:
    """All that a sync knows from one night to the next."""

    def __init__(self):
        self.rows = {t: {} for t in TYPES}
        self.district = None
        self.as_of = None
        self.held = None                # what the last run held back
        self.approved = None            # of that, what somebody let go


class Settings:
    def __init__(self):
        self.deletion_threshold = "10"
        self.school_min_records = 100
        self.min_allowed = 2
        self.reject_threshold = "5"
        self.restore_returning = True
        self.all_schools = False
        self.include_demographics = False
        self.schools = {}               # school_id -> app_school
        self.thresholds = {}            # type -> (percent, still valid)

    def percent(self, record_type):
        """That of a type, or None where nothing governs it."""
        percent, valid = self.thresholds.get(record_type, (None, False))
        if valid:
            return fractions.Fraction(percent)
        if record_type in ("term", "course"):
            return None
        return fractions.Fraction(self.deletion_threshold)


class Failure(Exception):
    def __init__(self, code, record_type=None):
        super().__init__(code)
        self.code = code
        self.record_type = record_type


# ----------
# Values
# ----------

SPACE = " \t\n\v\f\r\u00a0"


def trimmed(text):
    return text.strip(SPACE) or None if text is not None else None


def items(text):
    result = []
    for item in (text or "").split(","):
        item = trimmed(item)
        if item is not None and item not in result:
            result.append(item)
    return result or None


def date(text):
    for form in ("%Y-%m-%d", "%m/%d/%Y"):
        try:
            if form == "%Y-%m-%d":
                text = text.split("T")[0]
            return datetime.datetime.strptime(text, form).strftime("%Y-%m-%d")
        except ValueError:
            pass
    return None


def boolean(text):
    if text.lower() in ("true", "t", "yes", "y", "1"):
        return True
    if text.lower() in ("false", "f", "no", "n", "0"):
        return False
    return None


def made_id(*parts):
    return "/".join(p.replace("\\", "\\\\").replace("/", "\\/") for p in parts)


# ----------
# Fingerprints: only to tell which of two rows has the smaller one, and to see
# that the frozen algorithm (XXH64 over the columns) is what it was
# ----------

M = (1 << 64) - 1
P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F,
                      0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                      0x27D4EB2F165667C5)


def rotate(x, n):
    return ((x << n) | (x >> (64 - n))) & M


def xxh64(data, seed):
    def lane(acc, value):
        return rotate((acc + value * P2) & M, 31) * P1 & M

    def word(at, size=8):
        return int.from_bytes(data[at:at + size], "little")

    at = 0
    if len(data) >= 32:
        v = [(seed + P1 + P2) & M, (seed + P2) & M, seed, (seed - P1) & M]
        while len(data) - at >= 32:
            v = [lane(v[i], word(at + 8 * i)) for i in range(4)]
            at += 32
        acc = sum(rotate(v[i], n) for i, n in enumerate((1, 7, 12, 18))) & M
        for x in v:
            acc = ((acc ^ lane(0, x)) * P1 + P4) & M
    else:
        acc = (seed + P5) & M
    acc = (acc + len(data)) & M
    while len(data) - at >= 8:
        acc = (rotate(acc ^ lane(0, word(at)), 27) * P1 + P4) & M
        at += 8
    if len(data) - at >= 4:
        acc = (rotate(acc ^ (word(at, 4) * P1 & M), 23) * P2 + P3) & M
        at += 4
    while at < len(data):
        acc = rotate(acc ^ (data[at] * P5 & M), 11) * P1 & M
        at += 1
    acc = (acc ^ (acc >> 33)) * P2 & M
    acc = (acc ^ (acc >> 29)) * P3 & M
    return acc ^ (acc >> 32)


def fingerprint(record_type, record_id, content):
    """Of what content() made: (demographics wanted, values or KEEP)."""
    demographics, values = content
    data = bytearray()
    for value in (record_id,) + values + (None,):      # the last is "extra"
        if value is KEEP:
            data.append(2)
            continue
        if value is None:
            data.append(0)
            continue
        if isinstance(value, tuple):
            value = "{" + ",".join(
                '"' + i.replace("\\", "\\\\").replace('"', '\\"') + '"'
                for i in value) + "}"
        elif isinstance(value, bool):
            value = "true" if value else "false"
        value = value.encode()
        data += b"\1" + len(value).to_bytes(4, "little") + value
    hashed = xxh64(bytes(data), xxh64(b"1 %d" % demographics, 0))
    return hashed - (1 << 64) if hashed >> 63 else hashed


# ----------
# Reading: rows of files become records, or rejects (rule 4)
# ----------

class _Keep:
    """The source has no word on a column: the stored value stays."""

    def __repr__(self):
        return "KEEP"

    def __deepcopy__(self, memo):
        return self


KEEP = _Keep()


class Record:
    """A row of tonight: values by column, KEEP where it is silent."""

    def __init__(self, record_id, values, deleted=False, modified=None,
                 link=False):
        self.id = record_id
        self.values = values
        self.deleted = deleted
        self.modified = modified
        self.link = link                # may be named by two rows

    def content(self, record_type, settings):
        return (settings.include_demographics,
                tuple(tuple(v) if isinstance(v, list) else v
                      for v in (self.values[c] for c, _ in COLUMNS[record_type])))


class Received:
    def __init__(self):
        self.offer = {}                 # type -> "full" or "absent"
        self.records = {t: {} for t in TYPES}    # ID -> list of Record
        self.rejects = {t: set() for t in TYPES}
        self.rejected = dict.fromkeys(TYPES, 0)
        self.unreadable = dict.fromkeys(TYPES, 0)
        self.rows = dict.fromkeys(TYPES, 0)
        self.demographics = {}          # student -> {column: value}
        self.districts = []

    def reject(self, types, record_id, beside=()):
        """One bad row; what it names beside its own record has no ID."""
        types, beside = list(types), list(beside)
        if record_id is None:
            types, beside = types + beside, []
        self.rejected[types[0]] += 1
        for t in types:
            if record_id is None:
                self.unreadable[t] += 1
            else:
                self.rejects[t].add(record_id)
        for t in beside:
            self.rejected[t] += 1
            self.unreadable[t] += 1


class Line:
    """A row of a file, whose fields are bytes."""

    def __init__(self, header, fields):
        self.header = header
        self.fields = fields
        self.aligned = len(fields) >= len(header) and not any(
            fields[len(header):])
        self.sound = self.aligned and all(map(self._readable, fields))
        status = self.raw("status")
        self.deleted = self.aligned and status is not None and \
            status.lower() in (b"tobedeleted", b"inactive")

    @staticmethod
    def _readable(field):
        try:
            return "\0" not in field.decode("utf-8")
        except UnicodeDecodeError:
            return False

    def raw(self, name):
        if name not in self.header or \
                self.header.index(name) >= len(self.fields):
            return None
        return self.fields[self.header.index(name)]

    def readable(self, name):
        field = self.raw(name)
        return self.aligned and (field is None or self._readable(field))

    def has(self, name):
        return name in self.header

    def get(self, name):
        field = self.raw(name)
        return trimmed(field.decode("utf-8")) if field is not None else None

    def id(self):
        return self.get("sourcedId") if self.readable("sourcedId") else None


def values_of(line, record_type, mapping):
    """Columns by header names; the first of several that has a value."""
    values = {}
    for column, kind in COLUMNS[record_type]:
        names = mapping.get(column, ())
        names = (names,) if isinstance(names, str) else names
        values[column] = None
        if names and not any(map(line.has, names)):
            values[column] = KEEP
        texts = [t for t in map(line.get, names) if t is not None]
        if kind == "l":
            if texts:
                found = []
                for text in texts:
                    # a telephone number is one, a list has commas
                    for i in ([text] if column == "phones" else items(text) or []):
                        if i not in found:
                            found.append(i)
                values[column] = found or None
        elif texts:
            value = texts[0]
            if kind == "d":
                value = date(value)
            elif kind == "b":
                value = boolean(value)
            # an unreadable optional value keeps the stored one
            values[column] = KEEP if value is None else value
    return values


MAPPING = {
    "school": {"name": "name", "sis_id": "identifier",
               "school_number": "identifier"},
    "term": {"name": "title", "term_type": "type", "start_date": "startDate",
             "end_date": "endDate", "parent_source_id": "parentSourcedId",
             "school_year": "schoolYear"},
    "course": {"name": "title", "course_code": "courseCode",
               "school_source_id": "orgSourcedId", "grades": "grades",
               "subjects": "subjects"},
    "section": {"name": "title", "section_code": "classCode",
                "section_type": "classType",
                "course_source_id": "courseSourcedId",
                "school_source_id": "schoolSourcedId",
                "term_source_ids": "termSourcedIds", "grades": "grades",
                "subjects": "subjects", "periods": "periods",
                "location": "location"},
    "student": {"sis_id": "identifier", "student_number": "identifier",
                "given_name": "givenName", "middle_name": "middleName",
                "family_name": "familyName",
                "preferred_given_name": "preferredGivenName",
                "preferred_family_name": "preferredFamilyName",
                "username": "username", "email": "email",
                "phone": ("phone", "sms"), "grade": "grades",
                "school_source_id": "orgSourcedIds",
                "school_source_ids": "orgSourcedIds",
                "enabled": "enabledUser"},
    "staff": {"sis_id": "identifier", "staff_number": "identifier",
              "given_name": "givenName", "middle_name": "middleName",
              "family_name": "familyName", "username": "username",
              "email": "email", "phone": ("phone", "sms"), "roles": "role",
              "school_source_id": "orgSourcedIds",
              "school_source_ids": "orgSourcedIds",
              "enabled": "enabledUser"},
    "contact": {"sis_id": "identifier", "given_name": "givenName",
                "family_name": "familyName", "email": "email",
                "phones": ("phone", "sms"), "username": "username"},
    "enrollment": {"section_source_id": "classSourcedId",
                   "school_source_id": "schoolSourcedId",
                   "person_source_id": "userSourcedId", "role": "role",
                   "is_primary": "primary", "begin_date": "beginDate",
                   "end_date": "endDate"},
}

# All of them, but of a person one of both names.
REQUIRED = {"school": ("name",), "section": ("school_source_id",),
            "enrollment": ("section_source_id", "person_source_id", "role")}


def is_complete(record_type, values):
    def there(column):
        return values[column] is not None and values[column] is not KEEP

    if record_type in PERSONS:
        return there("given_name") or there("family_name")
    return all(there(c) for c in REQUIRED.get(record_type, ()))


def state_id(text):
    """That of userIds such as {SIS:1},{State:2}."""
    for part in (text or "").split("{")[1:]:
        name, colon, value = part.partition("}")[0].partition(":")
        if colon and "state" in name.lower():
            return trimmed(value)
    return None


def put(received, record_type, line, values):
    record_id = line.id()
    if record_id is None:
        received.reject([record_type], None)
    elif not line.deleted and not is_complete(record_type, values):
        received.reject([record_type], record_id)
    else:
        received.records[record_type].setdefault(record_id, []).append(
            Record(record_id, values, line.deleted,
                   line.get("dateLastModified")))


def read_org(received, line):
    org_type = line.get("type") if line.readable("type") else None
    if org_type is not None and org_type.lower() != "school":
        if line.sound and org_type.lower() == "district" and \
                not line.deleted and line.id() is not None:
            received.districts.append(line.id())
        return
    received.rows["school"] += 1
    if not line.sound or (org_type is None and not line.deleted):
        received.reject(["school"], line.id())
    else:
        put(received, "school", line,
            values_of(line, "school", MAPPING["school"]))


def types_of_role(role):
    if role is not None:
        role = role.lower()
        if role == "student":
            return ["student"]
        if role in STAFF_ROLES:
            return ["staff"]
        if role in CONTACT_ROLES:
            return ["contact"]
    return None


def read_user(received, line, settings):
    role = line.get("role") if line.readable("role") else None
    types = types_of_role(role)
    known = types is not None
    types = types or list(PERSONS)
    received.rows[types[0]] += 1
    beside = []
    if line.has("agentSourcedIds") and \
            (not line.aligned or line.raw("agentSourcedIds") != b""):
        beside = ["student_contact"]
        received.rows["student_contact"] += 1
    if not line.sound or not known and (role is not None or not line.deleted):
        # nobody knows what type a user without a known role is
        received.reject(types, line.id(), beside)
        return
    for t in types:
        values = values_of(line, t, MAPPING[t])
        if t != "contact":
            values["state_id"] = state_id(line.get("userIds")) \
                if line.has("userIds") else KEEP
            first = items(line.get("orgSourcedIds"))
            if line.has("orgSourcedIds"):
                values["school_source_id"] = first[0] if first else None
        if t == "staff":
            values["roles"] = [role.lower()] if role else None
        if t == "student":
            grade = items(line.get("grades"))
            if line.has("grades"):
                values["grade"] = grade[0] if grade else None
            if settings.include_demographics:
                values["birth_date"] = values["gender"] = KEEP
        put(received, t, line, values)
        if t != "staff":
            read_agents(received, line, t, role)


def read_agents(received, line, record_type, role):
    """The links of a student to each agent, or of a contact to each student."""
    agents = items(line.get("agentSourcedIds"))
    if line.deleted or not line.get("agentSourcedIds"):
        return
    if line.id() is None:
        received.reject(["student_contact"], None)
        return
    for agent in agents or ():
        ends = (line.id(), agent) if record_type == "student" else \
            (agent, line.id())
        values = dict.fromkeys((c for c, _ in COLUMNS["student_contact"]))
        values["student_source_id"], values["contact_source_id"] = ends
        # only the contact's own row tells what the contact is to them
        values["relationship"] = role.lower() if record_type == "contact" \
            else KEEP
        link = Record(made_id(*ends), values, False,
                      line.get("dateLastModified"), True)
        received.records["student_contact"].setdefault(link.id, []).append(link)


def read_demographics(received, line, settings):
    if not settings.include_demographics:
        return
    received.rows["student"] += 1
    if not line.sound:
        received.reject(["student"], line.id())
        return
    if line.deleted:
        return                          # they have gone, not the student
    if line.id() is None:
        received.reject(["student"], None)
        return
    values = {"birth_date": KEEP, "gender": KEEP}
    if line.has("birthDate"):
        text = line.get("birthDate")
        values["birth_date"] = None if text is None else date(text) or KEEP
    if line.has("sex"):
        values["gender"] = line.get("sex")
    received.demographics.setdefault(line.id(), values)


FILES = {"orgs": "school", "academicSessions": "term", "courses": "course",
         "classes": "section", "enrollments": "enrollment"}


def read(feed, settings):
    received = Received()
    for name, mode in feed.modes.items():
        if mode == "bulk" and name not in feed.files:
            raise Failure("SI007")      # the manifest names it
    for name, types in list(FILES.items()) + [("users", PERSONS)]:
        types = [types] if isinstance(types, str) else list(types)
        if name == "users" and name in feed.files and \
                "agentSourcedIds" in feed.files[name][0]:
            types.append("student_contact")
        for t in types:
            received.offer[t] = "full" if feed.modes.get(name) == "bulk" \
                else "absent"
    for name, (header, rows) in feed.files.items():
        if feed.modes.get(name) != "bulk":
            continue
        for fields in rows:
            line = Line(header, fields)
            if name == "orgs":
                read_org(received, line)
            elif name == "users":
                read_user(received, line, settings)
            elif name == "demographics":
                read_demographics(received, line, settings)
            else:
                t = FILES[name]
                received.rows[t] += 1
                if not line.sound:
                    received.reject([t], line.id())
                    continue
                values = values_of(line, t, MAPPING[t])
                if t == "enrollment" and isinstance(values["role"], str):
                    values["role"] = values["role"].lower()
                put(received, t, line, values)
    return received


# ----------
# Rows of one ID (rule 4)
# ----------

class Tonight:
    """What became of the rows: one record of an ID, deleted IDs, rejects."""

    def __init__(self):
        self.active = {t: {} for t in TYPES}
        self.deleted = {t: set() for t in TYPES}
        self.rejects = {t: set() for t in TYPES}


def with_demographics(record, received):
    extra = received.demographics.get(record.id)
    if extra is None:
        return record
    values = dict(record.values)
    for column, value in extra.items():
        if value is not KEEP:
            values[column] = value
    return Record(record.id, values, record.deleted, record.modified)


def winner(record_type, records, stored, received, settings):
    """The stored version, else the later, else an active one, else the one
    with the smaller fingerprint."""
    def better(a, b):
        stored_a, stored_b = is_stored(a), is_stored(b)
        if stored_a != stored_b:
            return stored_a
        if a.modified and b.modified and a.modified != b.modified:
            return a.modified > b.modified
        if a.deleted != b.deleted:
            return b.deleted
        return print_of(a) < print_of(b)

    def is_stored(record):
        if record_type == "student":
            record = with_demographics(record, received)
        return stored is not None and stored.content is not None and \
            stored.content == record.content(record_type, settings)

    def print_of(record):
        return fingerprint(record_type, record.id,
                           record.content(record_type, settings))

    records = sorted(records, key=print_of)
    best = records[0]
    for record in records[1:]:
        if better(record, best):
            best = record
    return best, [r for r in records if r is not best]


def fold_links(received, records, stored, settings):
    """A student names the contact and the contact the student: one link."""
    told = {r.values["relationship"] for r in records} - {KEEP}
    if len(told) < 2:
        best = records[0]
        others = []
    else:
        best, others = winner("student_contact", records, stored, received,
                              settings)
    result = Record(best.id, dict(best.values), False, best.modified, True)
    for r in others or records:
        mine, theirs = (x.values["relationship"] for x in (result, r))
        if theirs is KEEP or mine == theirs:
            continue
        if mine is KEEP:
            result.values["relationship"] = theirs
        elif theirs != best.values["relationship"]:
            received.rejected["student_contact"] += 1
    return result


def fold(received, state, settings):
    tonight = Tonight()
    for t in TYPES:
        for record_id, records in received.records[t].items():
            stored = state.rows[t].get(record_id)
            if t == "student_contact":
                tonight.active[t][record_id] = fold_links(
                    received, records, stored, settings)
                continue
            best = records[0]
            if len(records) > 1:
                best, others = winner(t, records, stored, received, settings)
                mine = best.content(t, settings)
                for r in others:
                    if r.content(t, settings) != mine or \
                            r.deleted != best.deleted:
                        received.rejected[t] += 1
            if best.deleted:
                tonight.deleted[t].add(record_id)
            else:
                if t == "student":
                    best = with_demographics(best, received)
                tonight.active[t][record_id] = best
        tonight.rejects[t] = received.rejects[t] - \
            set(received.records[t])
    return tonight


# ----------
# The night
# ----------

class Night:
    def __init__(self, state, settings, feed, run, today):
        self.state, self.settings, self.feed = state, settings, feed
        self.rows = state.rows
        self.run = run
        self.today = today
        self.counts = {t: dict.fromkeys(
            ("received", "out_of_scope", "rejected", "created", "updated",
             "unchanged", "restored", "manual", "frozen", "to_archive",
             "archived", "in_force", "allowed"), 0) for t in TYPES}
        self.pending = set()

    # ----------
    # Schools (rule 2)
    # ----------

    def find_schools(self):
        known = {i: trimmed(r.values["sis_id"] if r.values["sis_id"] is not KEEP
                            else None)
                 for i, r in self.tonight.active["school"].items()}
        for i in self.tonight.rejects["school"]:
            row = self.rows["school"].get(i)
            if row is not None and row.archived is None:
                known[i] = trimmed(row.values["sis_id"])
        found = set()
        for wanted in self.settings.schools:
            wanted = wanted.strip(" ")
            hits = [i for i, number in known.items() if number == wanted] or \
                [i for i in known if i == wanted]
            if len(hits) != 1:
                raise Failure("SI003", "school")
            found.add(hits[0])
        self.schools = None if self.settings.all_schools else found

    def set_up(self, schools):
        return self.schools is None or bool(set(schools) & self.schools)

    def app_school(self, record_id, number):
        numbers = {trimmed(r.values["sis_id"])
                   for r in self.tonight.active["school"].values()
                   if r.values["sis_id"] is not KEEP}
        names = [app for wanted, app in self.settings.schools.items()
                 if app is not None and
                 (wanted.strip(" ") == number or
                  wanted.strip(" ") == record_id and
                  wanted.strip(" ") not in numbers)]
        return min(names, default=None)

    # ----------
    # Stored records: frozen, ended, in force
    # ----------

    def live(self, t):
        return {i: r for i, r in self.rows[t].items() if r.archived is None}

    @staticmethod
    def schools_of(t, row):
        schools = set(row.values.get("school_source_ids") or ()
                      if t in ("student", "staff") else ())
        if row.values.get("school_source_id") is not None:
            schools.add(row.values["school_source_id"])
        return schools

    def find_frozen(self):
        """Stored records none of whose schools is set up any more."""
        self.frozen = {t: set() for t in TYPES}
        if self.schools is None:
            return
        frozen = self.frozen
        frozen["school"] = set(self.rows["school"]) - self.schools
        frozen["section"] = {
            i for i, r in self.rows["section"].items()
            if not self.set_up(self.schools_of("section", r))}
        frozen["enrollment"] = {
            i for i, r in self.rows["enrollment"].items()
            if r.values["section_source_id"] in frozen["section"]}
        in_section = {
            r.values["person_source_id"]
            for r in self.live("enrollment").values()
            if r.values["section_source_id"] in self.rows["section"] and
            r.values["section_source_id"] not in frozen["section"]}
        for t in ("student", "staff"):
            frozen[t] = {i for i, r in self.rows[t].items()
                         if not self.set_up(self.schools_of(t, r)) and
                         i not in in_section}
        frozen["student_contact"] = {
            i for i, r in self.rows["student_contact"].items()
            if r.values["student_source_id"] in frozen["student"]}
        students = {}
        for i, r in self.live("student_contact").items():
            students.setdefault(r.values["contact_source_id"], set()).add(
                r.values["student_source_id"])
        frozen["contact"] = {
            i for i in self.rows["contact"]
            if i in students and students[i] <= frozen["student"]}

    def section_ended(self, section_id):
        row = self.rows["section"].get(section_id)
        terms = row.values["term_source_ids"] if row is not None else None
        if not terms:
            return False
        ends = [self.rows["term"][t].values["end_date"]
                if t in self.rows["term"] else None for t in terms]
        return all(e is not None and e < self.today for e in ends)

    def ended(self, t, record_id):
        if t == "section":
            return self.section_ended(record_id)
        if t == "enrollment":
            values = self.rows[t][record_id].values
            if values["end_date"] is not None:
                return values["end_date"] < self.today
            return self.section_ended(values["section_source_id"])
        return False

    def in_force(self, t):
        return {i for i, r in self.live(t).items()
                if r.managed and i not in self.frozen[t] and
                not self.ended(t, i)}

    # ----------
    # Tonight: what is in scope, and which ends are there
    # ----------

    def keeps(self, t):
        """Is what is not received no less there?"""
        return self.received.offer[t] != "full" or self.received.unreadable[t]

    def end_of(self, t, record_id):
        """What a link finds at its end; None: nothing."""
        row = self.rows[t].get(record_id)
        live = row is not None and row.archived is None
        # of a contact the link's other end tells
        frozen = record_id in self.frozen[t] and t != "contact" and \
            record_id not in self.by_section
        if live and not row.managed:
            return THERE
        if record_id in self.in_scope[t]:
            held = t == "section" and row is not None and not live and \
                not self.settings.restore_returning
            return OUT if held else THERE
        if record_id in self.tonight.active[t]:
            return OUT
        if record_id in self.tonight.rejects[t]:
            return THERE if live and not frozen else OUT
        if row is None:
            return LEAVING if record_id in self.tonight.deleted[t] else None
        if live and self.keeps(t) and not frozen:
            return THERE
        return LEAVING

    def person(self, record_id):
        ends = [self.end_of(t, record_id) for t in ("student", "staff")]
        for state in (THERE, OUT, LEAVING):
            if state in ends:
                return state
        return None

    def ends(self, t, values):
        if t == "enrollment":
            return (self.end_of("section", values["section_source_id"]),
                    self.person(values["person_source_id"]))
        return (self.end_of("student", values["student_source_id"]),
                self.end_of("contact", values["contact_source_id"]))

    def staying(self, t):
        """Stored links that stay though no row of tonight says so."""
        return [r.values for i, r in self.live(t).items()
                if self.keeps(t) or i in self.tonight.rejects[t]]

    def find_scope(self):
        active = self.tonight.active
        self.in_scope = {t: set(active[t]) for t in TYPES}
        self.by_section = set()         # persons of sections in scope
        if self.schools is None:
            return

        def there(t, links, end, other):
            return {v[other] for v in links if self.end_of(t, v[end]) == THERE}

        def values(t):
            return [r.values for r in active[t].values()] + self.staying(t)

        self.in_scope["school"] &= self.schools
        self.in_scope["section"] = {
            i for i, r in active["section"].items()
            if self.set_up([r.values["school_source_id"]])}
        self.by_section = there("section", values("enrollment"),
                                "section_source_id", "person_source_id")
        for t in ("student", "staff"):
            self.in_scope[t] = {
                i for i, r in active[t].items()
                if i in self.by_section or self.set_up(self.record_schools(t, r))}
        by_student = there("student", values("student_contact"),
                           "student_source_id", "contact_source_id")
        self.in_scope["contact"] = set(active["contact"]) & by_student

    def record_schools(self, t, record):
        """Those listed tonight; what is not said is not known."""
        return {s for c in ("school_source_id", "school_source_ids")
                for s in ([record.values[c]]
                          if isinstance(record.values[c], str)
                          else record.values[c]
                          if isinstance(record.values[c], list) else [])}

    def judge_links(self):
        """Links of tonight: taken, skipped, or rejects."""
        self.lost, self.lagging = ({t: set() for t in TYPES} for _ in "12")
        self.skipped = {t: set(self.tonight.active[t]) - self.in_scope[t]
                        for t in TYPES}
        for t in LINKS:
            for i, record in self.tonight.active[t].items():
                ends = self.ends(t, record.values)
                if ends == (THERE, THERE):
                    continue
                self.in_scope[t].discard(i)
                if OUT in ends:
                    self.skipped[t].add(i)
                elif None in ends:
                    self.lost[t].add(i)
                else:
                    self.lagging[t].add(i)

    # ----------
    # What is to be done
    # ----------

    def new_values(self, t, record, row):
        return {c: (row.values[c] if row is not None else None)
                if record.values[c] is KEEP else record.values[c]
                for c, _ in COLUMNS[t]}

    def compare(self):
        self.creates, self.updates, self.restores, self.refreshes = (
            {t: {} for t in TYPES} for _ in "1234")
        self.gone = {t: {} for t in TYPES}      # ID -> reason
        for t in TYPES:
            counts = self.counts[t]
            if self.received.offer[t] == "full":
                self.compare_received(t, counts)
            elif t not in LINKS:
                continue                # not offered: left alone
            self.find_gone(t, counts)

    def compare_received(self, t, counts):
        holds = not self.settings.restore_returning and \
            t in ("section", "enrollment")
        counts["received"] = len(self.tonight.active[t]) + \
            len(self.tonight.deleted[t])
        counts["out_of_scope"] = len(self.skipped[t])
        counts["rejected"] = self.received.rejected[t] + \
            len(self.lost[t]) + len(self.lagging[t])
        for i in self.in_scope[t]:
            record, row = self.tonight.active[t][i], self.rows[t].get(i)
            values = self.new_values(t, record, row)
            app = self.app_school(i, values["sis_id"]
                                  if record.values["sis_id"] is not KEEP
                                  else None) if t == "school" else None
            done = (values, record.content(t, self.settings), app)
            if row is None:
                self.creates[t][i] = done
                counts["created"] += 1
            elif not row.managed:
                counts["manual"] += 1
            elif row.archived is not None:
                if holds:
                    counts["unchanged"] += 1
                else:
                    self.restores[t][i] = done
                    counts["restored"] += 1
            elif row.values != values or row.app_school != app:
                self.updates[t][i] = done
                counts["updated"] += 1
            else:
                self.refreshes[t][i] = done
                counts["unchanged"] += 1

    def find_gone(self, t, counts):
        for i, row in self.live(t).items():
            if not row.managed or i in self.in_scope[t] or \
                    i in self.tonight.rejects[t]:
                continue
            if i in self.frozen[t]:
                counts["frozen"] += 1
                continue
            if self.ended(t, i):
                reason = "ended"
            elif i in self.tonight.deleted[t]:
                reason = "deleted in the source"
            elif i in self.lost[t] or i in self.lagging[t]:
                reason = "goes with its end"
            elif i in self.skipped[t]:
                reason = "left scope"
            else:
                reason = "not in the feed"
            self.gone[t][i] = reason

    # ----------
    # Checks before the threshold (rules 3, 4 and 8)
    # ----------

    def check_rejects(self):
        for t in TYPES:
            rejected = self.counts[t]["rejected"] - len(self.lagging[t]) \
                if self.received.offer[t] == "full" \
                else self.received.rejected[t]
            rows = max(self.received.rows[t],
                       self.counts[t]["received"] + self.counts[t]["rejected"])
            allowed = int(rows * fractions.Fraction(
                self.settings.reject_threshold) / 100)
            if rejected > max(REJECTS_ALLOWED, allowed):
                raise Failure("SI010", t)

    def check_empty(self):
        for t in TYPES:
            if self.received.offer[t] != "full" or \
                    len(self.tonight.active[t]) > len(self.skipped[t]):
                continue
            if t == "student" or len(self.in_force(t)) > EMPTY_TYPE and \
                    self.settings.percent(t) != 100:
                raise Failure("SI007", t)

    def check_rekeyed(self):
        """Issue 6: half are gone and as many new, or half of them are twins."""
        found = None
        for t in ("student", "staff"):
            gone = {i for i in self.gone[t] if not self.is_approved(t, i)}
            stored = sum(r.managed for r in self.live(t).values()) - \
                (len(self.gone[t]) - len(gone))
            if not self.creates[t] or not self.gone[t] or \
                    stored < REKEYED or self.settings.percent(t) == 100:
                continue
            if len(gone) * 2 > stored and len(self.creates[t]) >= len(gone) or \
                    len(gone) >= REKEYED and \
                    self.twins(t, gone) * 2 >= len(gone):
                found = found or t
                self.pending |= {(t, i) for i in self.gone[t]}
        if found:
            raise Failure("SI011", found)

    def twins(self, t, gone):
        """How many of the gone have exactly one twin among the new."""
        def keys(values):
            number = values["student_number" if t == "student"
                            else "staff_number"]
            yield "sis_id", values["sis_id"]
            yield "number", number
            yield "state_id", values["state_id"]
            yield "email", values["email"] and values["email"].lower()
            if t == "student":
                who = [values[c] for c in ("given_name", "family_name",
                                           "birth_date")]
                yield "name", None if None in who else \
                    " ".join(who).lower()

        def holders(records):
            result = {}
            for i, values in records:
                for key in keys(values):
                    if key[1] is not None:
                        result.setdefault(key, set()).add(i)
            return {k: next(iter(v)) for k, v in result.items() if len(v) == 1}

        old = holders((i, self.rows[t][i].values) for i in gone)
        new = holders((i, done[0]) for i, done in self.creates[t].items())
        twins = {}
        for a, b in {(old[k], new[k]) for k in old if k in new}:
            twins.setdefault(a, []).append(b)
        single = [b[0] for b in twins.values() if len(b) == 1]
        return sum(single.count(b) == 1 for b in single)

    # ----------
    # The threshold (rule 1)
    # ----------

    def is_approved(self, t, i):
        return self.state.approved is not None and (t, i) in self.state.approved

    def keep_what_must_stay(self):
        for t in TYPES:
            if self.received.unreadable[t]:
                self.gone[t] = {}
            elif self.received.offer[t] != "full":
                self.gone[t] = {
                    i: reason for i, reason in self.gone[t].items()
                    if self.ends(t, self.rows[t][i].values) != (THERE, THERE)}

    def counted(self, t):
        """A: gone, in force, and no link that goes or comes with others."""
        result = {i for i, reason in self.gone[t].items()
                  if not self.ended(t, i) and not self.is_approved(t, i)}
        if t not in LINKS:
            return result

        def key(values):
            return [values[c] for c in
                    (("section_source_id", "person_source_id", "role")
                     if t == "enrollment" else
                     ("student_source_id", "contact_source_id"))]

        new = [key(done[0]) for done in
               list(self.creates[t].values()) + list(self.restores[t].values())]
        stays = {"enrollment": (self.tripped & {"section"},
                                self.tripped & {"student", "staff"}),
                 "student_contact": (self.tripped & {"student"},
                                     self.tripped & {"contact"})}[t]
        return {i for i in result
                if all(end == THERE or stay for end, stay in
                       zip(self.ends(t, self.rows[t][i].values), stays)) and
                key(self.rows[t][i].values) not in new}

    def guarded_schools(self, t, i):
        row = self.rows[t][i]
        if t == "enrollment":
            row = self.rows["section"].get(row.values["section_source_id"])
            t = "section"
            if row is None:
                return set()
        schools = self.schools_of(t, row)
        return schools if self.schools is None else schools & self.schools

    def check_threshold(self):
        self.tripped = set()
        trips = []
        for t in TYPES:
            percent = self.settings.percent(t)
            percent = fractions.Fraction(100) if percent is None else percent
            minimum = self.settings.min_allowed if percent > 0 and \
                t not in ("school", "student") else 0
            counted = self.counted(t)
            approved = {i for i in self.gone[t]
                        if self.is_approved(t, i) and not self.ended(t, i)}
            force = self.in_force(t) - approved
            counts = self.counts[t]
            counts["to_archive"] = len(counted)
            counts["in_force"] = len(force)
            counts["allowed"] = max(int(len(force) * percent / 100), minimum)
            if counts["to_archive"] > counts["allowed"]:
                self.tripped.add(t)
                trips.append(t)
            if t in ("section", "student", "staff", "enrollment") and \
                    percent < 100:
                self.check_schools(t, percent, minimum, counted, force, trips)
        if trips:
            self.pending = {(t, i) for t in TYPES for i in self.gone[t]}
            raise Failure("SI001", trips[0])

    def check_schools(self, t, percent, minimum, counted, force, trips):
        losses, totals = {}, {}
        for i in counted:
            for s in self.guarded_schools(t, i):
                losses[s] = losses.get(s, 0) + 1
        for i in force:
            for s in self.guarded_schools(t, i):
                totals[s] = totals.get(s, 0) + 1
        for s, lost in losses.items():
            n = totals.get(s, 0)
            allowed = max(int(max(n, self.settings.school_min_records) *
                              percent / 100), minimum)
            if lost > allowed or lost >= n and n >= 5:
                self.tripped.add(t)
                trips.append(t)

    # ----------
    # Doing it (rules 6 and 7)
    # ----------

    def apply(self):
        for t in TYPES:
            for i, done in self.creates[t].items():
                self.rows[t][i] = self.write(Row({}, self.run), done)
            for i, done in self.updates[t].items():
                self.write(self.rows[t][i], done).updated_run = self.run
            for i, done in self.refreshes[t].items():
                self.write(self.rows[t][i], done)
            for i, done in self.restores[t].items():
                row = self.write(self.rows[t][i], done)
                row.updated_run = row.restored_run = self.run
                row.archived = row.archived_run = None

    @staticmethod
    def write(row, done):
        row.values, row.content, row.app_school = done
        return row

    def archive(self):
        for t in TYPES:
            for i, reason in self.gone[t].items():
                self.rows[t][i].archived = reason
                self.rows[t][i].archived_run = self.run
            self.counts[t]["archived"] = len(self.gone[t])
        self.state.approved = None

    def remember(self):
        if len(self.received.districts) == 1:
            self.state.district = self.received.districts[0]
        self.state.as_of = self.feed.as_of

    # ----------
    # In the order of rule 8
    # ----------

    def check_offers(self):
        for t in TYPES:
            if t in self.received.offer:
                continue
            if any(r.managed for r in self.live(t).values()):
                raise Failure("SI007", t)
            self.received.offer[t] = "missing"

    def verify(self):
        if not self.settings.schools and not self.settings.all_schools:
            raise Failure("SI009")
        self.received = read(self.feed, self.settings)
        self.tonight = fold(self.received, self.state, self.settings)
        self.check_offers()
        if len(self.received.districts) == 1 and self.state.district not in \
                (None, self.received.districts[0]):
            raise Failure("SI002")
        if self.state.as_of is not None and self.feed.as_of < self.state.as_of:
            raise Failure("SI007")
        self.find_schools()
        self.find_frozen()
        self.find_scope()
        self.judge_links()
        self.compare()
        self.check_rejects()
        self.check_empty()
        self.check_rekeyed()
        self.keep_what_must_stay()


def run(state, settings, feed, number, mode, today):
    """A night: (state after it, failure or None, counts, held back).

    mode is call, dry (of which nothing stays) or atomic (of which nothing
    stays after an error)."""
    after = copy.deepcopy(state)
    after.held = None
    night = Night(after, settings, feed, number, today)
    failure = None
    try:
        night.verify()
        try:
            night.check_threshold()
        except Failure as f:
            failure = f
        if mode == "call" or mode == "atomic" and failure is None:
            night.apply()
            if failure is None:
                night.archive()
            night.remember()
        else:
            after = forget_held(state)
    except Failure as f:
        failure = f
        after = forget_held(state)
    if mode == "call" and failure is not None and \
            failure.code in ("SI001", "SI011"):
        after.held = night.pending
    return after, failure, night.counts, night.pending


def forget_held(state):
    after = copy.deepcopy(state)
    after.held = None
    return after
