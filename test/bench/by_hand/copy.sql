-- copy.sql: the files of the folder :dir into unlogged tables, the old rows
-- dropped by TRUNCATE.  FREEZE is allowed since both are one transaction, and
-- spares the next reader setting hint bits.
\set orgs :dir /orgs.csv
\set sessions :dir /academicSessions.csv
\set courses :dir /courses.csv
\set classes :dir /classes.csv
\set users :dir /users.csv
\set enrollments :dir /enrollments.csv
BEGIN;
TRUNCATE hand.in_orgs, hand.in_academicsessions, hand.in_courses,
  hand.in_classes, hand.in_users, hand.in_enrollments;
COPY hand.in_orgs FROM :'orgs' (FORMAT csv, HEADER, FREEZE);
COPY hand.in_academicsessions FROM :'sessions' (FORMAT csv, HEADER, FREEZE);
COPY hand.in_courses FROM :'courses' (FORMAT csv, HEADER, FREEZE);
COPY hand.in_classes FROM :'classes' (FORMAT csv, HEADER, FREEZE);
COPY hand.in_users FROM :'users' (FORMAT csv, HEADER, FREEZE);
COPY hand.in_enrollments FROM :'enrollments' (FORMAT csv, HEADER, FREEZE);
COMMIT;
