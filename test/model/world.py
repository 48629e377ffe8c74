"""world.py
Small districts and what happens to them, made from a random.Random.

A case is a sync's settings and its nights.  A night is what somebody did
before it (to settings or to the roster), a feed, and how the run is started.
Nothing of a case depends on how a run ends, so nights and rows can be taken
out of it when it is shrunk.
"""
import copy
import datetime

import rules

HEADERS = {
    "orgs": "sourcedId status dateLastModified name type identifier"
            " parentSourcedId",
    "academicSessions": "sourcedId status dateLastModified title type"
                        " startDate endDate parentSourcedId schoolYear",
    "courses": "sourcedId status dateLastModified schoolYearSourcedId title"
               " courseCode grades orgSourcedId subjects subjectCodes",
    "classes": "sourcedId status dateLastModified title grades courseSourcedId"
               " classCode classType location schoolSourcedId termSourcedIds"
               " subjects subjectCodes periods",
    "users": "sourcedId status dateLastModified enabledUser orgSourcedIds role"
             " username userIds givenName familyName middleName identifier"
             " email sms phone agentSourcedIds grades password",
    "demographics": "sourcedId status dateLastModified birthDate sex asian",
    "enrollments": "sourcedId status dateLastModified classSourcedId"
                   " schoolSourcedId userSourcedId role primary beginDate"
                   " endDate",
}
HEADERS = {name: text.split() for name, text in HEADERS.items()}

# What a header may lack without a type of record going with it.
OPTIONAL = {
    "orgs": ["identifier"], "academicSessions": ["endDate", "schoolYear"],
    "courses": ["grades", "orgSourcedId"],
    "classes": ["location", "termSourcedIds", "classCode"],
    "users": ["email", "middleName", "identifier", "phone", "orgSourcedIds",
              "userIds", "enabledUser", "agentSourcedIds"],
    "demographics": ["birthDate", "sex"],
    "enrollments": ["endDate", "primary", "schoolSourcedId"],
}

NAMES = ["Ada", "Björn", "Chloë", "D'Arcy", "Éloi", "Holt, Jr.", "de la Cruz",
         "Noor", "Zoë \"Z\"", "Łucja", "O\\Malley", "Vito", "Yara", "Quill"]
STATUSES = ["tobedeleted", "inactive", "active", "ToBeDeleted", ""]


class Feed:
    """Files of byte rows: {name: (header, rows)}, {name: mode}, and how new."""

    def __init__(self, files, modes, as_of):
        self.files, self.modes, self.as_of = files, modes, as_of


class Night:
    def __init__(self, ops, feed, mode):
        self.ops, self.feed, self.mode = ops, feed, mode


class Case:
    def __init__(self, nights):
        self.nights = nights


def day(n):
    """So many days from now; never so near that the hour would matter."""
    return (datetime.datetime.now(datetime.timezone.utc) +
            datetime.timedelta(days=n)).strftime("%Y-%m-%d")


class World:
    """A district as the source has it: records of each file, by ID."""

    def __init__(self, rnd):
        self.rnd = rnd
        self.files = {name: {} for name in HEADERS}
        self.left = {name: {} for name in HEADERS}
        self.serial = 0
        self.district = "D1"
        self.style = rnd.choice(["%s%d", "%s-%03d", "%s/%d", "0%s%d", "%s %d"])

        rnd_ = rnd.randrange
        self.add("orgs", sourcedId=self.district, name="District",
                 type="district")
        for _ in range(rnd.choice([1, 1, 2, 2, 3, 4])):
            self.new_school()
        # often five, six or seven: that is where an empty type begins to count
        for _ in range(rnd.choice([1, 1, 2, 3, 6])):
            self.new_term()
        for _ in range(rnd.choice([0, 3, 5, 6, 7, 8])):
            self.new_course()
        for _ in range(rnd.choice([1, 3, 5, 6, 7, 9, 12])):
            self.new_section()
        for _ in range(rnd.choice([0, 2, 5, 6, 7, 9, 12])):
            self.new_user("teacher")
        size = rnd.choice([rnd_(1, 12), rnd_(8, 30), rnd_(20, 46)])
        for _ in range(size):
            self.new_user("student")
        for _ in range(rnd_(0, size)):
            self.new_contact()
        for _ in range(rnd_(0, 3 * size)):
            self.new_enrollment()
        for teacher in self.users("teacher"):
            if rnd.random() < 0.5:
                self.new_enrollment(teacher)

    # ----------
    # Records
    # ----------

    def new_id(self, kind):
        self.serial += 1
        return self.style % (kind, self.serial)

    def add(self, name, /, **values):
        self.files[name][values["sourcedId"]] = values
        return values["sourcedId"]

    def some(self, name, what=None):
        """An ID of a file, or None."""
        ids = [i for i, r in self.files[name].items()
               if what is None or what(r)]
        return self.rnd.choice(ids) if ids else None

    def schools(self):
        return [i for i, r in self.files["orgs"].items()
                if r["type"] == "school"]

    def school(self):
        return self.rnd.choice(self.schools() or ["nowhere"])

    def users(self, *roles):
        return [i for i, r in self.files["users"].items() if r["role"] in roles]

    def name(self):
        return self.rnd.choice(NAMES)

    def new_school(self):
        i = self.new_id("s")
        number = self.rnd.choice(["%04d", "%d", "N%d"]) % (self.serial * 11)
        return self.add("orgs", sourcedId=i, name=self.name() + " School",
                        type="school", identifier=self.rnd.choice(
                            [number, number, number, ""]))

    def new_term(self):
        end = self.rnd.choice([-40, -10, 30, 90, 90, None])
        return self.add("academicSessions", sourcedId=self.new_id("t"),
                        title="Term", type="term", startDate=day(-100),
                        endDate="" if end is None else day(end),
                        schoolYear="2027")

    def new_course(self):
        return self.add("courses", sourcedId=self.new_id("c"),
                        title=self.name(), courseCode="C%d" % self.serial,
                        grades="09,10", orgSourcedId=self.school())

    def new_section(self):
        terms = [i for i in self.files["academicSessions"]]
        self.rnd.shuffle(terms)
        terms = terms[:self.rnd.choice([0, 1, 1, 1, 2])]
        return self.add("classes", sourcedId=self.new_id("x"),
                        title=self.name(), classType="scheduled",
                        courseSourcedId=self.some("courses") or "",
                        schoolSourcedId=self.school(), classCode="x",
                        termSourcedIds=",".join(terms), periods="1,2",
                        location="Room %d" % self.rnd.randrange(9))

    def new_user(self, role, **more):
        i = self.new_id({"student": "p", "teacher": "w"}.get(role, "k"))
        schools = [self.school()]
        if self.rnd.random() < 0.15:
            schools.append(self.school())
        if role == "teacher" and self.rnd.random() < 0.1:
            schools = [self.district]
        values = dict(
            sourcedId=i, enabledUser="true", role=role, username="u" + i,
            orgSourcedIds=",".join(dict.fromkeys(schools)),
            givenName=self.name(), familyName=self.name(),
            identifier=str(self.serial), email="%d@example.org" % self.serial,
            phone=self.rnd.choice(["", "555-%04d" % self.serial]),
            sms=self.rnd.choice(["", "555-9%03d" % self.serial]),
            userIds=self.rnd.choice(["", "{State:%d}" % self.serial,
                                     "{SIS:1},{stateId:%d}" % self.serial]),
            grades=self.rnd.choice(["", "KG", "09,10"]), password="secret")
        values.update(more)
        if role == "student" and self.rnd.random() < 0.6:
            self.add("demographics", sourcedId=i, sex="female",
                     birthDate="20%02d-0%d-1%d" % (self.rnd.randrange(5, 20),
                                                   self.rnd.randrange(1, 9),
                                                   self.rnd.randrange(0, 9)))
        return self.add("users", **values)

    def new_contact(self):
        student = self.some("users", lambda r: r["role"] == "student")
        by = self.rnd.randrange(3)
        i = self.new_user(self.rnd.choice(rules.CONTACT_ROLES),
                          agentSourcedIds=student or "" if by < 2 else "")
        if student is not None and by > 0:
            record = self.files["users"][student]
            record["agentSourcedIds"] = ",".join(
                filter(None, [record.get("agentSourcedIds"), i]))

    def new_enrollment(self, person=None):
        section = self.some("classes")
        if person is None:
            students = self.users("student")
            person = self.rnd.choice(students) if students else None
        if section is None or person is None:
            return
        end = self.rnd.choice([None] * 6 + [-30, 60])
        self.add("enrollments", sourcedId=self.new_id("e"),
                 classSourcedId=section, userSourcedId=person,
                 schoolSourcedId=self.files["classes"][section]
                 ["schoolSourcedId"],
                 role="teacher" if person in self.users("teacher")
                 else "student", primary="", beginDate="",
                 endDate="" if end is None else day(end))

    # ----------
    # What happens in a day
    # ----------

    def remove(self, name, record_id, with_links=None):
        if record_id not in self.files[name]:
            return
        self.left[name][record_id] = self.files[name].pop(record_id)
        if with_links is None:
            with_links = self.rnd.random() < 0.7
        if not with_links:
            return
        column = {"users": "userSourcedId", "classes": "classSourcedId"}.get(name)
        for i, r in list(self.files["enrollments"].items()):
            if column and r[column] == record_id:
                self.remove("enrollments", i)
        self.files["demographics"].pop(record_id, None)

    def restore(self):
        names = [n for n in self.left if self.left[n]]
        if not names:
            return
        name = self.rnd.choice(names)
        for i in list(self.left[name])[:self.rnd.choice([1, 2, 50])]:
            self.files[name].setdefault(i, self.left[name].pop(i))

    def change(self):
        name = self.rnd.choice(list(HEADERS))
        record_id = self.some(name)
        if record_id is None:
            return
        record = self.files[name][record_id]
        column = self.rnd.choice([h for h in HEADERS[name] if h not in
                                  ("sourcedId", "role", "password",
                                   "agentSourcedIds", "type")])
        if column == "status":
            record[column] = self.rnd.choice(STATUSES)
        elif column == "dateLastModified":
            record[column] = "2026-09-0%dT00:00:00Z" % self.rnd.randrange(1, 9)
        elif column.endswith("Date"):
            record[column] = self.rnd.choice(
                ["", day(-20), day(50), "soon", "2026-13-45", "1/31/2099",
                 day(-20) + "T00:00:00Z"])
        elif column == "enabledUser":
            record[column] = self.rnd.choice(["true", "false", "FALSE",
                                              "perhaps", ""])
        elif column == "primary":
            record[column] = self.rnd.choice(["true", "false", "?", ""])
        elif column in ("orgSourcedIds", "schoolSourcedId", "orgSourcedId"):
            record[column] = self.rnd.choice(
                [self.school(), self.school(), self.district, "elsewhere"])
        elif column == "termSourcedIds":
            record[column] = self.rnd.choice(
                ["", "t-unknown", self.some("academicSessions") or ""])
        elif column in ("classSourcedId", "userSourcedId"):
            target = {"classSourcedId": "classes"}.get(column, "users")
            record[column] = self.some(target) or "nothing"
        elif column == "identifier" and name == "orgs":
            if self.rnd.random() < 0.3:
                record[column] = self.rnd.choice(
                    ["", "0042", "0042", " 77 ", self.school(), record_id])
        else:
            record[column] = self.rnd.choice(
                [self.name() + str(self.rnd.randrange(9)), " padded ",
                 self.name()])

    def one_day(self):
        rnd = self.rnd
        pick = rnd.random()
        if pick < 0.22:
            self.change()
        elif pick < 0.36:
            for _ in range(rnd.choice([1, 1, 2, 4])):
                name = rnd.choice(["users", "users", "users", "classes",
                                   "enrollments", "courses",
                                   "academicSessions", "orgs"])
                if name == "orgs" and rnd.random() < 0.7:
                    continue
                self.remove(name, self.some(
                    name, lambda r: r.get("type") != "district"))
        elif pick < 0.52:
            self.restore()
        elif pick < 0.62:
            rnd.choice([self.new_section, self.new_contact, self.new_course,
                        self.new_term, self.new_school, self.new_enrollment,
                        lambda: self.new_user("student"),
                        lambda: self.new_user("teacher")])()
        elif pick < 0.68:           # some enrollments under new IDs
            for i in list(self.files["enrollments"]):
                if rnd.random() < 0.6:
                    record = self.files["enrollments"].pop(i)
                    record["sourcedId"] = self.new_id("e")
                    self.add("enrollments", **record)
        elif pick < 0.74:           # some move
            school = self.school()
            for i in self.users("student", "teacher"):
                if rnd.random() < 0.2:
                    self.files["users"][i]["orgSourcedIds"] = school
        elif pick < 0.79:           # a share of a type goes
            roles = rnd.choice([("student",), ("teacher",),
                                rules.CONTACT_ROLES])
            share = rnd.choice([0.1, 0.3, 0.6, 1])
            for i in self.users(*roles):
                if rnd.random() < share:
                    self.remove("users", i)
        elif pick < 0.83:           # a share of the sections or enrollments
            name = rnd.choice(["classes", "enrollments"])
            share = rnd.choice([0.1, 0.3, 1])
            for i in list(self.files[name]):
                if rnd.random() < share:
                    self.remove(name, i)
        elif pick < 0.86:           # a school loses its people
            school = self.school()
            role = rnd.choice(["student", "teacher"])
            for i in self.users(role):
                if self.files["users"][i]["orgSourcedIds"] == school:
                    self.remove("users", i)
        elif pick < 0.89:           # new IDs for a type
            role = rnd.choice(["student", "student", "teacher"])
            for i in self.users(role):
                if rnd.random() < 0.9:
                    record = self.files["users"].pop(i)
                    record["sourcedId"] = "n" + i
                    if rnd.random() < 0.3:
                        record["email"] = "new" + record["email"]
                        record["identifier"] = "9" + record["identifier"]
                    self.add("users", **record)
        elif pick < 0.92:           # a term's end moves
            i = self.some("academicSessions")
            if i is not None:
                self.files["academicSessions"][i]["endDate"] = day(
                    rnd.choice([-30, -5, 40]))
        elif pick < 0.95:           # of another role
            i = self.some("users")
            if i is not None:
                self.files["users"][i]["role"] = rnd.choice(
                    ["student", "teacher", "parent", "aide", "Student"])
        elif pick < 0.96:
            self.files["orgs"].pop(self.district, None)
            self.district = "D2" if self.district == "D1" and \
                rnd.random() < 0.4 else "D1"
            self.add("orgs", sourcedId=self.district, name="District",
                     type="district")
        elif pick < 0.985:          # a type has nobody
            name = rnd.choice(["academicSessions", "courses", "classes",
                               "enrollments", "users"])
            gone = list(self.files[name]) if name != "users" else \
                self.users(*rnd.choice([("teacher",), rules.CONTACT_ROLES]))
            for i in gone:
                self.remove(name, i)
        else:
            for i in self.users("student"):
                if rnd.random() < 0.3:
                    self.files["users"][i]["status"] = rnd.choice(STATUSES)

    # ----------
    # Tonight's files
    # ----------

    def damage(self, name, header, row):
        """A bad row, or two of one."""
        rnd = self.rnd
        row = list(row)
        place = rnd.randrange(len(row))
        what = rnd.randrange(10)
        if what == 0:
            row[place] = b"\xff\xfe" + row[place]
        elif what == 1:
            row[place] = b"a\0b"
        elif what == 2 and len(row) > 2:
            row.pop()
        elif what == 3:
            row.append(b"more")
        elif what == 4:
            row += [b"", b""]
        elif what == 5:
            row[header.index("sourcedId")] = rnd.choice([b"", b"  "])
        elif what == 6:
            for h in ("name", "title", "schoolSourcedId", "givenName",
                      "familyName", "userSourcedId", "classSourcedId", "type"):
                if h in header and rnd.random() < 0.7:
                    row[header.index(h)] = b""
        elif what == 7 and "role" in header:
            row[header.index("role")] = rnd.choice(
                [b"mascot", b"", b"guardian", b"teacher"])
        elif what == 8:
            return [row, list(row)]
        else:
            other = list(row)
            for h in ("email", "title", "name", "endDate", "familyName",
                      "orgSourcedIds", "schoolSourcedId", "status"):
                if h in header and rnd.random() < 0.5:
                    other[header.index(h)] = rnd.choice(
                        {"endDate": [b"", day(-9).encode(), day(9).encode()],
                         "status": [b"", b"", b"tobedeleted"],
                         "orgSourcedIds": [self.school().encode()],
                         "schoolSourcedId": [self.school().encode()]}.get(
                            h, [b"Other", b"other@example.org"]))
            if rnd.random() < 0.5:
                at = header.index("dateLastModified")
                row[at], other[at] = rnd.choice(
                    [(b"2026-09-02", b"2026-09-01"),
                     (b"2026-09-01", b"2026-09-02")])
            return [row, other]
        return [row]

    def feed(self, as_of):
        rnd = self.rnd
        files, modes = {}, {}
        worst = rnd.choice([0, 0, 0, 0.03, 0.1, 0.4])
        damaged = rnd.choice(list(HEADERS) + [None] * 4)
        short = rnd.choice(list(HEADERS)) if rnd.random() < 0.06 else None
        for name, records in self.files.items():
            header = list(HEADERS[name])
            if name == short:
                header.remove(rnd.choice(OPTIONAL[name]))
            rows = []
            for record in records.values():
                row = [record.get(h, "").encode() for h in header]
                if rnd.random() < (worst if damaged in (name, None) else 0):
                    rows += self.damage(name, header, row)
                else:
                    rows.append(row)
            if rnd.random() < 0.5:
                rnd.shuffle(rows)
            files[name], modes[name] = (header, rows), "bulk"
        if rnd.random() < 0.06:
            name = rnd.choice(["academicSessions", "courses", "classes",
                               "demographics", "enrollments"])
            modes[name] = "absent"
            if rnd.random() < 0.5:
                del files[name]
        if rnd.random() < 0.01:
            del files[rnd.choice(list(files))]
        return Feed(files, modes, as_of)

    # ----------
    # What somebody did before the run
    # ----------

    def school_ids(self):
        """How a school may be set up: by its number or by its ID."""
        i = self.school()
        number = self.files["orgs"].get(i, {}).get("identifier", "").strip()
        return self.rnd.choice([number or i, number or i, i, " %s " % i])

    def setting(self):
        rnd = self.rnd
        pick = rnd.randrange(14)
        if pick < 3:
            return ("set", "deletion_threshold",
                    rnd.choice(["0", "5", "10", "25", "33.3", "50", "99.9",
                                "100"]))
        if pick == 3:
            return ("set", "min_allowed", rnd.choice([0, 1, 2, 5]))
        if pick == 4:
            return ("set", "school_min_records", rnd.choice([0, 5, 20, 100]))
        if pick == 5:
            return ("set", "reject_threshold", rnd.choice(["0", "5", "20",
                                                           "50", "100"]))
        if pick == 6:
            return ("set", "restore_returning", rnd.random() < 0.5)
        if pick == 7:
            return ("set", "all_schools", rnd.random() < 0.5)
        if pick == 8:
            return ("set", "include_demographics", rnd.random() < 0.5)
        if pick < 11:
            return ("threshold", rnd.choice(rules.TYPES),
                    rnd.choice([None, "0", "7", "29", "50", "100"]),
                    rnd.random() < 0.8)
        if pick == 11:
            return ("add_school", self.school_ids(),
                    rnd.choice([None, "lincoln", "grant"]))
        if pick == 12:
            return ("drop_school", rnd.randrange(4)) if rnd.random() < 0.6 \
                else ("add_school", self.school_ids(), None)
        return ("app_school", rnd.randrange(4), rnd.choice([None, "hoover"]))

    def hand(self):
        """An application's write to the roster."""
        rnd = self.rnd
        t = rnd.choice(rules.TYPES)
        name = {v: k for k, v in rules.FILES.items()}.get(t, "users")
        i = self.some(name) or "nobody"
        pick = rnd.randrange(7)
        if t == "student_contact":
            student = self.some("users", lambda r: r["role"] == "student")
            agents = self.files["users"].get(student, {}).get(
                "agentSourcedIds", "").split(",")
            i = rules.made_id(student or "", agents[0])
        if pick < 3:
            column = rnd.choice([c for c, kind in rules.COLUMNS[t]
                                 if kind == "t"])
            return ("edit", t, i, column, rnd.choice(["by hand", None]))
        if pick < 5:
            return ("managed", t, i, rnd.random() < 0.3)
        if pick == 5:
            return ("insert", t, rnd.choice([i, "own-%d" % rnd.randrange(9)]),
                    rnd.random() < 0.2)
        return ("delete", t, i)


def make_case(rnd, nights):
    world = World(rnd)
    result = []
    ops = [("set", "deletion_threshold", rnd.choice(["10", "20", "50"]))]
    if rnd.random() < 0.35:
        ops.append(("set", "all_schools", True))
    schools = world.schools()
    rnd.shuffle(schools)
    for i in schools[:rnd.randrange(1, len(schools) + 1)]:
        if rnd.random() < 0.99:
            number = world.files["orgs"][i]["identifier"]
            ops.append(("add_school", rnd.choice([number, number or i]) or i,
                        rnd.choice([None, "lincoln"])))
    for n in range(nights):
        if n > 0:
            for _ in range(rnd.choice([0, 1, 1, 2, 3, 5])):
                world.one_day()
            ops = []
            while rnd.random() < 0.3:
                ops.append(world.setting())
            while rnd.random() < 0.25:
                ops.append(world.hand())
            if rnd.random() < 0.4:
                ops.append(("approve",))
        elif rnd.random() < 0.5:
            ops += [world.setting() for _ in range(2)]
        as_of = n if rnd.random() > 0.01 else -9
        mode = rnd.choices(["call", "dry", "atomic"], [70, 7, 23])[0]
        result.append(Night(ops, world.feed(as_of), mode))
    return Case(copy.deepcopy(result))
