// The seed: the users and sessions that exist when the program starts.

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/rodando/realtime"
)

// seed is the file of -seed.
type seed struct {
	Users    []userRow    `json:"users"`
	Sessions []sessionRow `json:"sessions"`
}

// userRow is a user in the file and in the store.
type userRow struct {
	ID     string            `json:"id"`
	Type   realtime.UserType `json:"type"`
	Status userStatus        `json:"status"` // absent: active
	Name   string            `json:"name"`
}

type userStatus string

const (
	active   userStatus = "active"
	inactive userStatus = "inactive"
	banned   userStatus = "banned"
)

// sessionRow is a login session in the file and in the store.
type sessionRow struct {
	SessionID            string     `json:"sid"`
	UserID               string     `json:"userId"`
	Revoked              bool       `json:"revoked"`
	AccessTokenExpiresAt *time.Time `json:"accessTokenExpiresAt"` // null: the token's own expiry applies
}

// usable reports whether the session can be used now.
func (s *sessionRow) usable() bool {
	return !s.Revoked && (s.AccessTokenExpiresAt == nil || s.AccessTokenExpiresAt.After(time.Now()))
}

func demoSeed() seed {
	return seed{Users: []userRow{
		{ID: "driver-1", Type: realtime.UserDriver, Status: active, Name: "Diego"},
		{ID: "driver-2", Type: realtime.UserDriver, Status: active, Name: "Dora"},
		{ID: "passenger-1", Type: realtime.UserPassenger, Status: active, Name: "Paula"},
		{ID: "passenger-2", Type: realtime.UserPassenger, Status: active, Name: "Pedro"},
		{ID: "admin-1", Type: realtime.UserAdmin, Status: active, Name: "Ana"},
	}}
}

func readSeed(file string) (seed, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return seed{}, err
	}
	var s seed
	if err := json.Unmarshal(data, &s); err != nil {
		return seed{}, fmt.Errorf("%s: %w", file, err)
	}
	if err := s.check(); err != nil {
		return seed{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// check refuses rows that are likely mistakes. A session of an unknown user is allowed:
// tokens for it are refused.
func (s *seed) check() error {
	users, sessions := map[string]bool{}, map[string]bool{}
	for i := range s.Users {
		u := &s.Users[i]
		if u.Status == "" {
			u.Status = active
		}
		switch {
		case u.ID == "" || users[u.ID]:
			return fmt.Errorf("users[%d]: id %q is empty or a duplicate", i, u.ID)
		case u.Type != realtime.UserDriver && u.Type != realtime.UserPassenger && u.Type != realtime.UserAdmin:
			return fmt.Errorf("user %q: type %q is not driver, passenger or admin", u.ID, u.Type)
		case u.Status != active && u.Status != inactive && u.Status != banned:
			return fmt.Errorf("user %q: status %q is not active, inactive or banned", u.ID, u.Status)
		}
		users[u.ID] = true
	}
	for i, row := range s.Sessions {
		if row.SessionID == "" || sessions[row.SessionID] {
			return fmt.Errorf("sessions[%d]: sid %q is empty or a duplicate", i, row.SessionID)
		}
		sessions[row.SessionID] = true
	}
	return nil
}
