package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// version is the format of the file.
const version = 1

var errDamaged = errors.New("integrity check failed")

const tables = `
CREATE TABLE meta(version INTEGER NOT NULL);
CREATE TABLE events(
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	pool TEXT NOT NULL,
	at INTEGER NOT NULL,
	kind TEXT NOT NULL,
	instance TEXT NOT NULL,
	json BLOB NOT NULL
);
CREATE INDEX events_of_pool ON events(pool, seq);
CREATE INDEX events_of_instance ON events(instance, seq) WHERE instance <> '';
CREATE TABLE snapshots(pool TEXT PRIMARY KEY, upto INTEGER NOT NULL, at INTEGER NOT NULL, state BLOB NOT NULL);
CREATE TABLE profiles(pool TEXT PRIMARY KEY, at INTEGER NOT NULL, data BLOB NOT NULL);
`

// open connects both handles. What fails leaves nothing open.
func (s *Store) open(path string) error {
	if err := makePrivate(path); err != nil {
		return err
	}
	write, err := sql.Open("sqlite", dsn(path, "synchronous(FULL)"))
	if err != nil {
		return err
	}
	write.SetMaxOpenConns(1)
	if err := prepare(write); err != nil {
		return errors.Join(err, write.Close())
	}
	read, err := sql.Open("sqlite", dsn(path, "query_only(1)"))
	if err != nil {
		return errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(4)
	s.write, s.read = write, read
	return nil
}

// makePrivate makes the file where there is none: the database would make it for all to read. What it keeps beside the
// file has the file's mode. One that exists is not even opened: closing it would release the locks of this process.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// dsn names the file as a URI, so that no character of the path is taken for a parameter.
func dsn(path, pragma string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	u.RawQuery = url.Values{
		"_pragma": {"busy_timeout(1000)", "journal_mode(WAL)", pragma},
		"_txlock": {"immediate"},
	}.Encode()
	return u.String()
}

// prepare checks what is there and makes the tables of a new file.
func prepare(db *sql.DB) error {
	var result string
	if err := db.QueryRow(`PRAGMA quick_check(1)`).Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, result)
	}
	var names int
	if err := db.QueryRow(`SELECT count(*) FROM sqlite_schema`).Scan(&names); err != nil {
		return err
	}
	if names == 0 {
		return create(db)
	}
	var v int
	if err := db.QueryRow(`SELECT version FROM meta`).Scan(&v); err != nil {
		return fmt.Errorf("it is no journal of Fettle: %w: %w", ft.ErrConflict, err)
	}
	if v > version {
		return fmt.Errorf("it was written by a newer Fettle (format %d, this one knows %d): %w", v, version, ft.ErrConflict)
	}
	return nil
}

func create(db *sql.DB) error {
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit without effect
	if _, err := tx.Exec(tables); err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO meta(version) VALUES(?)`, version); err != nil {
		return err
	}
	return tx.Commit()
}

// moveAside renames the file and what belongs to it, and returns the new name.
func moveAside(path string, now time.Time) (string, error) {
	aside := path + ".corrupt-" + now.UTC().Format("20060102T150405.000Z")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err := os.Rename(path+suffix, aside+suffix)
		if err != nil && (suffix == "" || !errors.Is(err, os.ErrNotExist)) {
			return "", err
		}
	}
	return aside, nil
}
